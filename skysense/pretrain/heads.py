"""What stands between features and losses while learning; dropped afterwards.

The paper names neither heads nor sizes. These are the heads of the DINO family (Caron et al. 2021;
Oquab et al. 2024): an MLP, a unit sphere, and prototypes on it, one head for each kind of feature
and granularity; and for alignment one projector per sensor, as in SimCLR (Chen et al. 2020).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from skysense.errors import EncoderError
from skysense.model.init import initialise
from skysense.pretrain.assignment import exact, full
from skysense.pretrain.geometry import TOKEN_CELLS
from skysense.pretrain.parallel import total, world

FUSED = "fused"
"""Key of the fused features, beside the sensors'."""

GRANULARITIES = ("pixel", "object", "image")

SMALLEST_VARIANCE = 1e-6
"""Keeps a channel that never changes from being divided by zero."""


@dataclass(frozen=True)
class HeadConfig:
    """Sizes of the heads, all unpublished; the defaults are for `tiny`.

    Attributes:
        hidden: Width of the two hidden layers. Four times the 128 of `tiny`; DINO's is 2048.
        out: Width of the sphere on which features meet prototypes, and of the projectors. 256, as
            DINO's.
        prototypes: Prototypes per head (K). DINO's 65,536 belong to a paper-size run; 1,024 are
            about as many as a batch of `tiny` has rows to spread over them.
        harmonics: Cycles a year up to which the curves of `skysense.pretrain.prediction` go. 3 follow
            two crops in a year; a view of eight dates could not tell more.
        tied: Whether pixel, object and image share one head. Apart by default, since means of many
            pixels and single pixels are spread differently; tying them is an ablation.
    """

    hidden: int = 512
    out: int = 256
    prototypes: int = 1024
    harmonics: int = 3
    tied: bool = False

    def __post_init__(self) -> None:
        """Refuse sizes that make no head."""
        if self.harmonics < 0:
            raise EncoderError(f"harmonics={self.harmonics!r} must not be negative; 0 is a mean.")
        if min(self.hidden, self.out) < 1 or self.prototypes < 2:
            raise EncoderError(
                f"A head with hidden={self.hidden}, out={self.out} and prototypes="
                f"{self.prototypes} cannot tell anything apart; widths must be at least 1 and "
                "prototypes at least 2."
            )


class Head(nn.Module):
    """Features to similarities with K prototypes: three layers, unit length, cosine.

    Features are standardised first, channel by channel over the rows of all processes. SkySense ends
    without a norm, so untrained features all point nearly the same way; their cosines after an MLP
    would differ in the third digit, targets would be uniform, and a short run would learn nothing.
    """

    def __init__(self, dim: int, hidden: int, out: int, prototypes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, out)
        self.prototypes = nn.Parameter(torch.randn(prototypes, out))

    def forward(
        self,
        x: Float[Tensor, "n c"],
        phase: Int[Tensor, " n"] | None = None,
        phases: int = TOKEN_CELLS**2,
    ) -> Float[Tensor, "n k"]:
        """Cosines, -1..1, of projected features with the prototypes.

        Args:
            x: Features.
            phase: Where in its token each of them lies, or another group whose mean says nothing, see
                `standardised`; None = nowhere.
            phases: How many of these there are.

        Prototypes count by direction only (weight normalisation with a gain of 1), so that no
        prototype can win by growing.
        """
        x = standardised(x, phase, phases)
        z = self.fc3(F.gelu(self.fc2(F.gelu(self.fc1(x)))))
        return F.linear(F.normalize(z, dim=-1), F.normalize(self.prototypes, dim=-1))


def standardised(
    x: Float[Tensor, "n c"],
    phase: Int[Tensor, " n"] | None = None,
    phases: int = TOKEN_CELLS**2,
) -> Float[Tensor, "n c"]:
    """Rows less their mean, in standard deviations, over the rows of all processes; in full precision.

    A channel that never changes, and a single row, become zeros.

    Args:
        x: Features.
        phase: Which of the 16 cells of its token a row is; the mean is then that of its phase. What
            all cells of one phase share was made by weights of their own and says nothing of the
            ground, yet two views would agree on it: a corner stays a corner however a view is turned.
            For what queries find, which query asked.
        phases: How many of these there are.
    """
    x = full(x)
    if torch.is_grad_enabled() and not x.requires_grad and world() > 1:
        # nothing was seen here: take part in sums of gradients with a process where something was
        x = x.detach().requires_grad_()
    if phase is None:
        phase = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    member = F.one_hot(phase, phases).to(x)  # n 16
    with exact(x):
        sums = total(torch.cat([member.T @ x, member.sum(0)[:, None]], 1))  # 16 c+1
    means, count = sums[:, :-1] / sums[:, -1:].clamp(min=1), sums[:, -1].sum().clamp(min=1)
    x = x - means[phase]
    variance = total(x.square().sum(0)) / count
    return x / (variance + SMALLEST_VARIANCE).sqrt()


class Projector(nn.Module):
    """Features of one sensor to the unit sphere on which all sensors meet: two layers."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Float[Tensor, "*batch c"]) -> Float[Tensor, "*batch z"]:
        """Unit vectors."""
        return F.normalize(self.fc2(F.gelu(self.fc1(x))), dim=-1)


class TextHead(nn.Module):
    """Fused features to the space of words: standardised, one matrix, unit length, cosines."""

    def __init__(self, dim: int, words: Float[Tensor, "k w"]) -> None:
        super().__init__()
        self.read = nn.Linear(dim, words.shape[1], bias=False)
        self.register_buffer("words", words, persistent=False)

    def forward(self, x: Float[Tensor, "n c"]) -> Float[Tensor, "n k"]:
        """Cosines with the words of each class."""
        z = full(self.read(standardised(x)))
        with exact(z):
            return F.linear(F.normalize(z, dim=-1), self.words.to(z.dtype))


class Heads(nn.Module):
    """Every head of one network, student or teacher.

    Args:
        dims: Width of the features of each sensor, and of `"fused"` ones if there are any.
        config: Sizes.
        generator: Source of the random weights; advanced by the call.
        queries: Width of what semantic queries find; 0 = there are none.
        words: Vectors of class names that fused features without context are aligned with, and None
            for no such alignment.
        plain: Width of fused features without context; needed for `words`.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        config: HeadConfig,
        generator: torch.Generator,
        *,
        queries: int = 0,
        words: Float[Tensor, "k w"] | None = None,
        plain: int = 0,
    ) -> None:
        super().__init__()
        names = ("tied",) if config.tied else GRANULARITIES
        hidden, out = config.hidden, config.out
        self.contrast = nn.ModuleDict(
            {
                key: nn.ModuleDict({n: Head(dim, hidden, out, config.prototypes) for n in names})
                for key, dim in dims.items()
            }
        )
        self.align = nn.ModuleDict(
            {key: Projector(dim, hidden, out) for key, dim in dims.items() if key != FUSED}
        )
        self.queries = Head(queries, hidden, out, config.prototypes) if queries else None
        self.text = None if words is None else TextHead(plain, words)
        initialise(self, generator)

    def head(self, key: str, granularity: str) -> nn.Module:
        """The head of a sensor's features, or of the fused ones, at one of `GRANULARITIES`.

        Raises:
            EncoderError: These heads were made without that sensor.
        """
        own = self._of(self.contrast, key)
        return own["tied"] if "tied" in own else own[granularity]

    def projector(self, key: str) -> nn.Module:
        """The projector of a sensor's pixel features.

        Raises:
            EncoderError: These heads were made without that sensor.
        """
        return self._of(self.align, key)

    @staticmethod
    def _of(modules: nn.ModuleDict, key: str) -> nn.Module:
        if key not in modules:
            raise EncoderError(
                f"These heads know {', '.join(modules) or 'no features'}, not {key!r}; make them "
                "with the width of its features."
            )
        return modules[key]
