"""Every picture: a function from fields to something that can be shown.

Colours and overlays need only NumPy; HoloViews and matplotlib are imported when a function that
draws with them is first used.
"""

import importlib
from typing import Any

_HOMES = {
    "Chips": "cutouts",
    "Multiples": "sidebyside",
    "Overlay": "overlays",
    "PALETTE": "hues",
    "above": "selection",
    "agreement": "charts",
    "beneath": "blend",
    "caption": "words",
    "chips": "cutouts",
    "colours": "paint",
    "comparison": "distances",
    "credit": "words",
    "date_title": "imagery",
    "dates": "charts",
    "distribution": "effects",
    "faded": "blend",
    "field": "pictures",
    "figure": "static",
    "legend": "paint",
    "maps": "pictures",
    "mask": "selection",
    "multiples": "sidebyside",
    "overlay": "overlays",
    "palette": "hues",
    "payers": "distances",
    "points_in": "selection",
    "rgb": "pictures",
    "save_figure": "static",
    "scatter": "points",
    "sensitivity": "effects",
    "title": "words",
    "true_colour": "pictures",
    "true_colour_field": "imagery",
    "usage": "charts",
    "warnings": "words",
}

__all__ = [*_HOMES]  # noqa: PLE0604 -- the keys are names


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"skysense.view.{_HOMES[name]}"), name)
    raise AttributeError(f"skysense.view has no {name!r}; it has {', '.join(sorted(_HOMES))}.")


def __dir__() -> list[str]:
    return sorted(__all__)
