"""Temporal fusion (paper, Sec. 3.1): calendar embedding and the transformer over one place's dates.

Every 10 m place is a sequence of its own: an extra token, then one token per sensor and date. No
positions are added, so the order of the dates is irrelevant and a date may simply be left out.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from skysense.errors import EncoderError
from skysense.model.config import FusionConfig
from skysense.model.layers import Layer, drop_rates


class Calendar(nn.Module):
    """A learned vector per day of the year, added to tokens before the input projection."""

    def __init__(self, rows: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, rows, dim))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, doy: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape c"]:
        """Vectors for days of the year; zeros for unknown ones.

        Args:
            doy: 1 to 366, or 0 for an unknown date. 31 December of a leap year shares the last row
                with 30 December (the original would read past its table).
        """
        return with_unknown(self.table[0])[self.rows(doy)]

    def rows(self, doy: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """Row of a table whose row 0 stands for an unknown date.

        Raises:
            EncoderError: A day is below 0 or above 366.
        """
        if doy.numel() and (int(doy.min()) < 0 or int(doy.max()) > 366):
            raise EncoderError(
                f"Days of the year from {int(doy.min())} to {int(doy.max())} were given; use 1 to "
                "366, and 0 where the date is unknown."
            )
        return doy.clamp(max=self.table.shape[1])


def with_unknown(table: Float[Tensor, "rows c"]) -> Float[Tensor, "rows1 c"]:
    """The table with a row of zeros before it."""
    return F.pad(table, (0, 0, 1, 0))


class FusionTransformer(nn.Module):
    """Projects tokens, prepends the extra token and runs pre-norm layers without a final norm."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config = config
        self.input = nn.Linear(config.in_dim, config.dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.layers = nn.ModuleList(
            Layer(config.dim, config.heads, config.mlp_ratio, rate, config.eps)
            for rate in drop_rates(config.drop_path, config.layers)
        )
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(
        self, tokens: Float[Tensor, "n s i"], valid: Bool[Tensor, "n s"] | None = None
    ) -> Float[Tensor, "n c"]:
        """The fused feature of each sequence: the extra token after the last layer.

        Args:
            tokens: Unprojected tokens.
            valid: Tokens that count; an invalid one changes nothing, as if it were left out.

        Raises:
            EncoderError: The configuration has no class token.
        """
        return self.run(self.input(tokens), valid)

    def run(
        self, tokens: Float[Tensor, "n s c"], valid: Bool[Tensor, "n s"] | None = None
    ) -> Float[Tensor, "n c"]:
        """As `forward`, from tokens already projected. The last layer computes one token only."""
        if not self.config.cls_token:
            raise EncoderError(
                "This fusion transformer has no class token (cls_token=False), so it has no single "
                "fused feature; use levels(tokens) instead."
            )
        x, valid = self._with_cls(tokens, valid)
        for layer in self.layers[:-1]:
            x = layer(x, valid)
        return self.layers[-1].first(x, valid)[:, 0]

    def attention(self, tokens: Float[Tensor, "n s c"]) -> Float[Tensor, "n s1"]:
        """What the extra token attends to in the last layer, itself first, mean over the heads.

        Args:
            tokens: Already projected, as for `run`.

        Returns:
            Shares that sum to 1.

        Raises:
            EncoderError: The configuration has no class token.
        """
        if not self.config.cls_token:
            raise EncoderError(
                "This fusion transformer has no class token (cls_token=False), so nothing attends to "
                "the dates on behalf of all of them."
            )
        x, _ = self._with_cls(tokens, None)
        for layer in self.layers[:-1]:
            x = layer(x)
        last = self.layers[-1]
        return last.attn.first_weights(last.ln1(x))

    def levels(
        self, tokens: Float[Tensor, "n s i"], valid: Bool[Tensor, "n s"] | None = None
    ) -> list[Tensor]:
        """The whole sequence after every layer, the extra token (if any) first.

        Slices of it are the original's other outputs: `[-1][:, :2]` its first two tokens,
        `[-1][:, 1:]` all but the extra one.
        """
        x = self.input(tokens)
        if self.config.cls_token:
            x, valid = self._with_cls(x, valid)
        out = []
        for layer in self.layers:
            x = layer(x, valid)
            out.append(x)
        return out

    def _with_cls(self, x: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        return x, None if valid is None else F.pad(valid, (1, 0), value=True)
