"""Every error a user can cause, each a sentence: what was given, why it cannot work, what to do.

All of them are `ValueError`s, so a caller who does not care which kind it was can catch one type.
"""


class SkySenseError(ValueError):
    """Base of every error this package raises on purpose."""


class RegionError(SkySenseError):
    """The place or the period cannot be used as asked."""


class StackError(SkySenseError):
    """A stack breaks its contract, or holds nothing usable."""


class RecipeError(SkySenseError):
    """A recipe, or a file that it names, cannot be read as described."""


class SourceError(SkySenseError):
    """A catalogue or an image server did not answer, or answered with something unusable."""


class EncoderError(SkySenseError):
    """An encoder cannot be made, or cannot work on this input."""


class WeightsError(SkySenseError):
    """A weight file is missing, unsafe, incomplete or of the wrong shape."""


class AnalysisError(SkySenseError):
    """An analysis was asked for something its input cannot give."""


class SessionError(SkySenseError):
    """A session, a link or a class pack is not what one can be, or points where it may not."""


class Cancelled(Exception):  # noqa: N818 -- a wish that was granted, not an error
    """Work stopped because the caller asked for it."""
