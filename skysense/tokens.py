"""What SkySense made of each date by itself, kept: another choice of dates only has to be fused.

Encoding a date knows nothing of the other dates, of the day or of the place, so what is kept goes
by the pixels themselves: the same window of the same image is found again whatever stack it comes
from, and an image whose mask was edited is not mistaken for the one before.

Features made with a cache are those made without. A batch of which nothing is known is encoded as
it always is, so not a bit differs; of one that is partly known only the rest goes through the
network, in smaller pieces, which on some processors rounds differently (float32: below 1e-6 of
the largest value; not at all on those we tried).
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from skysense.batch import Batch, SensorBatch
from skysense.checks import as_number, shown
from skysense.encoders import Encoder
from skysense.errors import EncoderError
from skysense.model.inputs import DateFeatures


@runtime_checkable
class ByDate(Protocol):
    """An encoder whose work has two halves: each date by itself, then all of them together."""

    def encode(self, batch: Batch) -> dict[str, DateFeatures]:
        """The first half."""
        ...

    def fuse(
        self, dates: Mapping[str, DateFeatures], lonlat: Tensor, stride: int | None = None
    ) -> Tensor:
        """The second half."""
        ...


class _Kept(NamedTuple):
    values: Tensor
    """(h, w, c) on the processor."""
    valid: Tensor
    """(h, w) bool."""
    turn: int
    """The last piece of work that used it."""

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + self.valid.nbytes


class TokenCache:
    """Encoded dates in memory, up to a budget.

    What was not used for longest goes first, but nothing goes that the work in hand has used
    itself: of a place too large for the budget a part stays, instead of each window pushing out
    the one that will be asked for next. May be shared by threads, encoders and places.

    Args:
        max_gb: What may be held. SkySense-tiny makes 0.13 MB of each Sentinel date of a window of
            640 m, the model of the paper 1 MB (in float32).

    Raises:
        EncoderError: If that is no number above 0.
    """

    def __init__(self, max_gb: float = 2.0) -> None:
        if not 0 < as_number(max_gb) < float("inf"):
            raise EncoderError(f"max_gb={shown(max_gb)} is not a number of gigabytes above 0.")
        self.max_gb = float(max_gb)
        self.nbytes = 0
        """What is held now."""
        self.found = 0
        """Dates of windows that were there when they were asked for."""
        self.made = 0
        """Dates of windows that had to be encoded."""
        self._turn = 0
        self._kept: OrderedDict[Any, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def begin(self) -> int:
        """The number of a new piece of work, whose dates do not push out each other."""
        with self._lock:
            self._turn += 1
            return self._turn

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self.nbytes = 0

    def encode(self, encoder: Encoder, batch: Batch, turn: int | None = None) -> dict[str, Any]:
        """What `encoder.encode(batch)` gives, encoding only what is not known yet.

        Args:
            encoder: One with the two halves of `ByDate`.
            batch: Windows.
            turn: From `begin`; a piece of work of its own if None.
        """
        turn = self.begin() if turn is None else turn
        dates = {}
        for key, each in batch.sensors.items():
            if key in encoder.sensors:
                dates[key] = self._sensor(encoder, key, each, turn)
        return dates or encoder.encode(batch)  # which says what is wrong

    def _sensor(self, encoder: Encoder, sensor: str, each: SensorBatch, turn: int) -> DateFeatures:
        shape = each.valid.shape[:2]  # b t
        keys = {at: _key(encoder, sensor, each, at) for at in np.ndindex(*shape)}
        known = {at: kept for at, key in keys.items() if (kept := self._take(key, turn))}
        missing = [at for at in keys if at not in known]
        self.found, self.made = self.found + len(known), self.made + len(missing)
        if not known:
            made = _encode(encoder, sensor, each)
            for at in missing:
                self._keep(keys[at], made, at, turn)
            return made
        rows = {at: (kept.values, kept.valid) for at, kept in known.items()}
        if missing:
            w, t = (list(index) for index in zip(*missing, strict=True))
            part = SensorBatch(
                each.pixels[w, t][None], each.valid[w, t][None], each.doy[w, t][None]
            )
            made = _encode(encoder, sensor, part)
            for i, at in enumerate(missing):
                self._keep(keys[at], made, (0, i), turn)
                rows[at] = made.values[0, i].permute(1, 2, 0), made.valid[0, i]
        device = encoder.device
        values = torch.stack([rows[at][0].to(device) for at in keys])
        valid = torch.stack([rows[at][1].to(device) for at in keys])
        values = values.view(*shape, *values.shape[1:]).permute(0, 1, 4, 2, 3)  # b t c h w
        return DateFeatures(values, valid.view(*shape, *valid.shape[1:]), each.doy.to(device))

    def _take(self, key: Any, turn: int) -> _Kept | None:
        with self._lock:
            kept = self._kept.pop(key, None)
            if kept is not None:
                self._kept[key] = kept = kept._replace(turn=turn)
            return kept

    def _keep(self, key: Any, made: DateFeatures, at: tuple[int, ...], turn: int) -> None:
        valid = made.valid[at]
        if not bool(valid.any()):
            return  # costs nothing to make
        # memory of its own: a part of a batch would hold the whole batch
        values = made.values[at].permute(1, 2, 0).detach().to("cpu", copy=True).contiguous()
        kept = _Kept(values, valid.detach().to("cpu", copy=True), turn)
        limit = self.max_gb * 1e9
        with self._lock:
            while self._kept and self.nbytes + kept.nbytes > limit:
                oldest = next(iter(self._kept))
                if self._kept[oldest].turn == turn:
                    return
                self.nbytes -= self._kept.pop(oldest).nbytes
            if key not in self._kept and self.nbytes + kept.nbytes <= limit:
                self._kept[key] = kept
                self.nbytes += kept.nbytes


def check_cache(cache: Any) -> None:
    """Raise `EncoderError` unless this is a `TokenCache` or None."""
    if cache is not None and not isinstance(cache, TokenCache):
        raise EncoderError(f"cache={shown(cache)} is not a TokenCache; make one with TokenCache().")


def features_of(
    encoder: Encoder, stride: int, cache: TokenCache | None = None, turn: int | None = None
) -> Callable[[Batch], Tensor]:
    """From a batch to its features, through a cache if there is one and the encoder has use for it.

    Args:
        encoder: Any.
        stride: Spacing (m).
        cache: Where to look for encoded dates, and to keep them.
        turn: The piece of work it is part of, from `cache.begin()`; a new one if None.
    """
    if cache is None or not isinstance(encoder, ByDate):
        return lambda batch: encoder(batch, stride)
    turn = cache.begin() if turn is None else turn
    return lambda batch: encoder.fuse(cache.encode(encoder, batch, turn), batch.lonlat, stride)


def _encode(encoder: Any, sensor: str, each: SensorBatch) -> DateFeatures:
    """One sensor's dates through the network."""
    return encoder.encode(Batch({sensor: each}, each.pixels.new_zeros(len(each.pixels), 2)))[sensor]


def _key(encoder: Encoder, sensor: str, each: SensorBatch, at: tuple[int, ...]) -> tuple[Any, ...]:
    """What decides the tokens of a date of a window: weights, schedule, arithmetic, pixels."""
    told = hashlib.blake2b(digest_size=20)
    for part in (each.pixels[at], each.valid[at]):
        told.update(np.ascontiguousarray(part.cpu().numpy()).data)
    network = (encoder.name, encoder.weights, encoder.dim, str(encoder.dtype), str(encoder.device))
    network += (getattr(encoder, "merge", ""),)
    return *network, sensor, tuple(each.pixels[at].shape), told.digest()
