"""The composition: encode every date of every sensor, then fuse the dates at each place.

How a date is encoded is what SkySense V1 and V2 differ in; all that follows is here, for both.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from skysense.errors import EncoderError
from skysense.model.config import SENSOR_ORDER, ModelConfig
from skysense.model.fusion import Calendar, FusionTransformer, with_unknown
from skysense.model.heads import UPHead
from skysense.model.inputs import (
    DateFeatures,
    Lattice,
    check_features,
    check_pixels,
    lattice_of,
    places_of,
)
from skysense.model.layers import Memo
from skysense.model.prototypes import Prototypes, read_out

#: Tokens that go through the model at once when the caller names no number.
MAX_TOKENS = {"cpu": 16384, "cuda": 262144}


class TemporalModel(nn.Module, ABC):
    """A model but for its encoders, which a subclass brings together with `maps_of`.

    Parts that `config.parts` does not list are absent (None).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    def add_fusion(self) -> None:
        """Make everything after the encoders; to be called once these are there, so they come first."""
        config = self.config
        f, have = config.fusion, set(config.parts)
        self.head_s2 = (
            UPHead(config.s2.out_dim, f.in_dim, f.up_scale) if "head_s2" in have else None
        )
        self.head_s1 = (
            UPHead(config.s1.out_dim, f.in_dim, f.up_scale) if "head_s1" in have else None
        )
        self.calendar = Calendar(f.calendar_rows, f.in_dim) if "calendar" in have else None
        self.fusion = FusionTransformer(f) if "fusion" in have else None
        p = config.prototypes
        self.prototypes = Prototypes(p, f.dim) if p.context and (p.cells or p.dim) else None
        self.queries = None  # which V2 has
        self.memo = Memo()
        self.untrained = ""
        """Where random weights come from, `random(seed=0)`; empty for weights that learnt."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the parameters, to which inputs are cast and in which results come."""
        return next(self.parameters()).dtype

    def forward(
        self,
        inputs: Mapping[str, tuple[Tensor, Tensor, Tensor]],
        *,
        step: int = 1,
        offset: tuple[int, int] = (0, 0),
        cell: Int[Tensor, " b"] | None = None,
        bank: Float[Tensor, "b k d"] | None = None,
        max_tokens: int | None = None,
    ) -> Float[Tensor, "b dim rows columns"]:
        """Fused features of the places of a window.

        Args:
            inputs: Any non-empty subset of `config.sensors` -> `SensorInput` (or a plain tuple in
                that order). All cover the same ground: 32 hr pixels meet one s2 or s1 pixel.
            step: 1, 2 or 4: compute only the 10 m cells whose row and column, counted from the
                window's top left, are `offset` modulo `step`. Their values do not depend on it.
            offset: (row, column), each in `0..step - 1`.
            cell: Cell of the Earth of each batch element, -1 = none; only for a model that holds
                banks (`config.prototypes.cells`).
            bank: Or the prototypes themselves; only for a model with `config.prototypes.context`.
            max_tokens: Tokens in flight at once; bounds the memory and changes no value beyond
                rounding. None = 16384 on a processor, 262144 on a GPU.

        Returns:
            `(b, config.dim, rows, columns)` in the parameters' dtype, `rows = ceil((H - offset) /
            step)` for H 10 m rows in the window. NaN where no token of any sensor is valid, and
            nowhere else. With `config.prototypes.context` the channels after the first
            `config.fusion.dim` are the prototypes' read-out, zero where the bank is unknown or was
            never trained.

        Raises:
            EncoderError: A sensor is unknown, or shapes, days or options do not fit.
        """
        features = {
            sensor: DateFeatures(
                self.encode_dates(sensor, given[0], given[1], max_tokens=max_tokens), *given[1:]
            )
            for sensor, given in inputs.items()
        }
        return self.fuse(
            features, step=step, offset=offset, cell=cell, bank=bank, max_tokens=max_tokens
        )

    def encode_dates(
        self,
        sensor: str,
        pixels: Float[Tensor, "b t bands h w"],
        valid: Bool[Tensor, "b t hv wv"] | None = None,
        *,
        max_tokens: int | None = None,
        **options: Any,
    ) -> Float[Tensor, "b t c hp wp"]:
        """Features of each date by itself, all dates of all windows in one batch.

        Args:
            sensor: "hr", "s2" or "s1".
            pixels: As in `SensorInput`.
            valid: As in `SensorInput`; dates without one valid token are not encoded (zeros).
                None = all are valid.
            max_tokens: As in `forward`.
            **options: Whatever else the model's `maps_of` takes.

        Returns:
            For s2 and s1 one feature per 40 m token, for hr one per 10 m cell.

        Raises:
            EncoderError: The model has no such encoder, or the pixels do not fit it.
        """
        check_pixels(self.config, sensor, pixels, valid)
        b, t, _, h, w = pixels.shape
        part = getattr(self.config, sensor)
        every = pixels.new_ones(b, t, dtype=torch.bool)
        used = every if valid is None else valid.flatten(2).any(-1)
        whole = bool(used.all())
        images = (pixels.flatten(0, 1) if whole else pixels[used]).to(self.dtype)
        shape = (h // part.stride, w // part.stride, part.out_dim)
        if not len(images):
            return images.new_zeros(b, t, *shape).permute(0, 1, 4, 2, 3)
        first = round(h / part.patch * w / part.patch)  # tokens of an image
        at_once = max(1, self._max_tokens(max_tokens) // first)
        maps = [self.maps_of(sensor, chunk, **options) for chunk in images.split(at_once)]
        values = torch.cat(maps)
        if not whole:
            values = values.new_zeros(b, t, *shape).index_put((used,), values)
        values = values.view(b, t, *shape)
        return values.permute(0, 1, 4, 2, 3)

    @abstractmethod
    def maps_of(
        self, sensor: str, images: Float[Tensor, "n bands h w"]
    ) -> Float[Tensor, "n hp wp c"]:
        """Some images of a sensor, encoded: what `encode_dates` gives, channels last."""

    def fuse(
        self,
        features: Mapping[str, tuple[Tensor, Tensor, Tensor]],
        *,
        step: int = 1,
        offset: tuple[int, int] = (0, 0),
        cell: Int[Tensor, " b"] | None = None,
        bank: Float[Tensor, "b k d"] | None = None,
        max_tokens: int | None = None,
        at: Int[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b dim rows columns"]:
        """Fuse encoded dates; arguments, result and errors as `forward`.

        Keep what `encode_dates` gave to fuse another choice of dates: only this part runs again.
        With `at`, row-major indices of 10 m cells of each window, only these are fused, whatever
        `step` says, and the result is `(b, dim, n, 1)`.
        """
        features = self._checked(features)
        lattice = lattice_of(features, step, offset) if at is None else places_of(features, at)
        valid = {s: lattice.pick(s, features[s].valid) for s in features}  # N t
        counts = sum(each.sum(1) for each in valid.values())
        parts = [
            (chunk, self.fusion.run(tokens))
            for chunk, tokens in self._by_count(features, valid, lattice, max_tokens)
        ]
        fused = torch.full(
            (len(counts), self.config.fusion.dim), torch.nan, dtype=self.dtype, device=counts.device
        )
        if parts:
            rows = torch.cat([c for c, _ in parts])
            values = torch.cat([values for _, values in parts])
            fused = fused.index_put((rows,), values.to(fused.dtype))
        fused = fused.view(*lattice.shape, -1).permute(0, 3, 1, 2)
        return self._with_context(fused, cell, bank)

    @torch.no_grad()
    def attention(
        self,
        features: Mapping[str, tuple[Tensor, Tensor, Tensor]],
        *,
        step: int = 1,
        offset: tuple[int, int] = (0, 0),
        max_tokens: int | None = None,
    ) -> Float[Tensor, "b t rows columns"]:
        """How much the extra token looks at each date in the last layer, mean over the heads.

        A look inside, no explanation: earlier layers have mixed the dates already. `fuse` neither
        uses nor changes it.

        Args:
            features: As for `fuse`, as are the others.
            step: 1, 2 or 4.
            offset: (row, column).
            max_tokens: Tokens in flight at once.

        Returns:
            (b, dates, rows, columns), the dates of all sensors one after the other in the order of
            `config.sensors`: 0..1, 0 for an invalid date, NaN where none is valid. What is missing
            from 1 is what the extra token gives itself.

        Raises:
            EncoderError: As `fuse`.
        """
        features = self._checked(features)
        lattice = lattice_of(features, step, offset)
        valid = {s: lattice.pick(s, features[s].valid) for s in features}
        seen = torch.cat(list(valid.values()), dim=1)  # N T, a sequence holds its dates so ordered
        weights = torch.zeros(seen.shape, dtype=self.dtype, device=seen.device)
        weights[~seen.any(1)] = torch.nan
        for chunk, tokens in self._by_count(features, valid, lattice, max_tokens):
            part = weights[chunk]
            part[seen[chunk]] = self.fusion.attention(tokens)[:, 1:].flatten().to(part.dtype)
            weights[chunk] = part
        return weights.view(*lattice.shape, -1).permute(0, 3, 1, 2)

    def _checked(self, features: Mapping[str, tuple[Tensor, Tensor, Tensor]]) -> dict[str, Any]:
        """Encoded dates that this model can fuse, in the order of the sequence."""
        if self.fusion is None:
            raise EncoderError(
                f"The model {self.config.name!r} has no fusion part (it has "
                f"{', '.join(self.config.parts)}); use encode_dates for single dates."
            )
        features = {s: DateFeatures(*features[s]) for s in _ordered(features)}
        check_features(self.config, features)
        return features

    def _by_count(
        self,
        features: dict[str, DateFeatures],
        valid: dict[str, Tensor],
        lattice: Lattice,
        max_tokens: int | None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Places and their projected sequences, of as many dates each, a bounded number at once."""
        counts = sum(each.sum(1) for each in valid.values())
        # Places with equally many dates run together, so that no token is ever padding; within
        # them, places at the same sub-position of their 40 m token share one projection.
        order = (counts * 16 + lattice.phase).argsort(stable=True)
        sorted_counts = counts[order]
        order = order[int((sorted_counts == 0).sum()) :]
        folded: dict[tuple[str, int], Any] = {}
        limit = self._max_tokens(max_tokens)
        for count, number in zip(
            *[x.tolist() for x in counts[order].unique_consecutive(return_counts=True)],
            strict=True,
        ):
            places, order = order[:number], order[number:]
            for chunk in places.split(max(1, limit // (count + 1))):
                yield chunk, self._sequences(features, valid, lattice, chunk, count, folded)

    def _sequences(
        self,
        features: dict[str, DateFeatures],
        valid: dict[str, Tensor],
        lattice: Lattice,
        places: Tensor,
        count: int,
        folded: dict[tuple[str, int], Any],
    ) -> Tensor:
        """Projected valid tokens `(n, count, dim)` of places that have `count` of them each."""
        fusion = self.fusion
        sequence = torch.empty(
            len(places), count, fusion.config.dim, dtype=self.dtype, device=places.device
        )
        filled = torch.zeros(len(places), dtype=torch.int64, device=places.device)
        for sensor, usable in valid.items():
            here = usable[places]  # n t
            row, date = here.nonzero(as_tuple=True)
            tokens = lattice.gather(sensor, features[sensor].values, places[row], date)  # K c
            if sensor == "hr":
                tokens = fusion.input(tokens)
            else:
                tokens = self._raised(sensor, tokens, lattice.phase[places[row]], folded)
            if self.calendar is not None and fusion.config.calendar in (sensor, "all"):
                doy = features[sensor].doy[lattice.batch[places[row]], date]
                if ("calendar", 0) not in folded:
                    folded["calendar", 0] = self._calendar()
                tokens = tokens + folded["calendar", 0][self.calendar.rows(doy)]
            slot = filled[row] + (here.cumsum(1) - 1)[row, date]
            sequence[row, slot] = tokens.to(sequence.dtype)  # autocast gives less
            filled = filled + here.sum(1)
        return sequence

    def _raised(
        self,
        sensor: str,
        tokens: Tensor,
        phase: Tensor,
        folded: dict[tuple[str, int], Any],
    ) -> Tensor:
        """UPHead and input projection in one product per sub-position; tokens sorted by phase."""
        phases, lengths = phase.unique_consecutive(return_counts=True)
        out = []
        for index, part in zip(phases.tolist(), tokens.split(lengths.tolist()), strict=True):
            if (sensor, index) not in folded:
                folded[sensor, index] = self._folded(sensor, index)
            out.append(F.linear(part, *folded[sensor, index]))
        return torch.cat(out) if out else tokens.new_zeros(0, self.fusion.config.dim)

    def _folded(self, sensor: str, phase: int) -> tuple[Tensor, Tensor]:
        """Weight and bias of UPHead followed by the input projection, at one sub-position."""
        head, last = getattr(self, f"head_{sensor}"), self.fusion.input
        tensors = [head.conv.weight, head.conv.bias, last.weight, last.bias]

        def compute() -> tuple[Tensor, Tensor]:
            weight, bias = head.phase(*divmod(phase, head.scale))
            exact = torch.promote_types(weight.dtype, torch.float32)
            outer = last.weight.to(exact)
            inner = torch.cat([weight.to(exact), bias.to(exact)[:, None]], dim=1)
            both = outer @ inner
            return (
                both[:, :-1].to(weight.dtype).contiguous(),
                (both[:, -1] + last.bias.to(exact)).to(weight.dtype),
            )

        return self.memo.get((sensor, phase), tensors, compute)

    def _calendar(self) -> Tensor:
        """The calendar after the input projection (without its bias); row 0 = unknown date."""
        table, weight = self.calendar.table, self.fusion.input.weight
        return self.memo.get(
            "calendar", [table, weight], lambda: F.linear(with_unknown(table[0]), weight)
        )

    def _with_context(self, fused: Tensor, cell: Tensor | None, bank: Tensor | None) -> Tensor:
        """Concatenate the prototypes' read-out, if this model has one."""
        p = self.config.prototypes
        if not p.context:
            if cell is not None or bank is not None:
                raise EncoderError(
                    "Prototypes were given to a model without geo-context; build it with "
                    "prototypes=PrototypeConfig(context=True, ...), or leave cell and bank out."
                )
            return fused
        trained = torch.zeros(len(fused), dtype=torch.bool, device=fused.device)
        if cell is not None and bank is not None:
            raise EncoderError("Both cell and bank were given; give the one to be used.")
        if cell is not None:
            if not p.cells:
                raise EncoderError(
                    "This model holds no banks (prototypes.cells is 0); give bank= instead of cell=."
                )
            bank, trained = self.prototypes(cell)
            trained = trained.to(fused.device)
        elif bank is not None:
            if bank.shape[0] != len(fused) or bank.shape[2] != self.config.context_dim:
                raise EncoderError(
                    f"The bank has shape {tuple(bank.shape)}; it must be (batch {len(fused)}, "
                    f"prototypes, feature {self.config.context_dim})."
                )
            trained = ~trained
        missing = fused.isnan()[:, :1]
        context = fused.new_zeros(len(fused), self.config.context_dim, *fused.shape[2:])
        if bank is not None:
            # Without the NaN, which would enter the gradient of the map to queries as 0 × NaN.
            queries = fused.masked_fill(missing, 0.0)
            queries = queries if self.prototypes is None else self.prototypes.queries(queries)
            context = read_out(queries, bank.to(queries)).to(fused.dtype)
        context = context.masked_fill(~trained[:, None, None, None], 0.0)
        return torch.cat([fused, context.masked_fill(missing, torch.nan)], dim=1)

    def _max_tokens(self, given: int | None) -> int:
        if given is None:
            return MAX_TOKENS.get(next(self.parameters()).device.type, MAX_TOKENS["cpu"])
        if given < 1:
            raise EncoderError(f"max_tokens is {given}; it must be at least 1.")
        return given


def _ordered(features: Mapping[str, tuple[Tensor, Tensor, Tensor]]) -> list[str]:
    """Sensors in the order of the fusion sequence, unknown ones last (to be refused by name)."""
    return [s for s in SENSOR_ORDER if s in features] + sorted(set(features) - set(SENSOR_ORDER))
