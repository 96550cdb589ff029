"""Geo-context prototypes (paper, Sec. 3.3): what places of this cell of the Earth usually look like.

Each cell of the Earth has a bank of prototypes P. Fused features F read it by attention,

    context = softmax(Q Pᵀ / √d) P,

and, during training, the bank follows the features: cosine scores M between F and P, a balanced
transport plan S of M by Sinkhorn's iterations, P̄ = Sᵀ F, and P ← m P + (1 − m) P̄.

Differs from or adds to the paper, whose weights and code of this module were never released:

- The bank may be narrower than the features; a learned linear map `query` then brings them to its
  width. (Its 215 million parameters fit a width of 512, half that of the features.)
- Sᵀ F is read as a mean: every column of S is scaled to sum 1, so that prototypes keep the scale of
  the features.
- A cell's first prototypes are features seen there, far from one another. A prototype that features
  stopped using, or that became the twin of another, is placed anew at features the others explain
  worst, and that is counted.
- A cell that was never trained reads zeros.
- Sums go over all processes that train together, so several of them move a bank as one would.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from skysense.errors import EncoderError
from skysense.model.config import PrototypeConfig

Total = Callable[[Tensor], Tensor]
"""The sum of a tensor over all processes, the same on each of them."""

SMALLEST_SHARE = 0.01
"""A prototype is unused once its share of the features, averaged as the bank is, fell below this
part of an equal share: after some 460 updates without one, at momentum 0.99."""

TWIN = 0.999
"""Cosine above which two prototypes say the same: the later one is unused too. Equal masses make
twins wherever one kind of place is common: of 16 prototypes that followed 12 kinds of unequal
frequency for 1,500 updates (epsilon 0.05), 6 to 9 ended as twins; with this rule none, for 26 to 45
placed anew, and prototypes hold places of one kind by 0.99 instead of 0.89 to 0.93."""

SHARPNESS = 0.005
"""How sharply the worst explained features are picked, in units of the cosine."""

STATE = ("bank", "trained", "usage")


class BankUpdate(NamedTuple):
    """What an update did, over all processes."""

    cells: int
    """Cells whose banks moved."""
    features: int
    """Features they moved towards."""
    reseeded: int
    """Prototypes placed anew because they were unused; those of a new cell do not count."""


def read_out(
    features: Float[Tensor, "b d h w"], bank: Float[Tensor, "b k d"]
) -> Float[Tensor, "b d h w"]:
    """Context of each place: softmax(Q Pᵀ / √d) P with the place's feature as the query.

    Args:
        features: Fused features Q.
        bank: Prototypes P of the cell each batch element lies in.
    """
    b, d, h, w = features.shape
    q = features.flatten(2).transpose(1, 2)  # b hw d
    scores = q @ bank.transpose(1, 2) / math.sqrt(d)  # b hw k
    context = scores.softmax(-1) @ bank  # b hw d
    return context.transpose(1, 2).reshape(b, d, h, w)


def sinkhorn(
    scores: Float[Tensor, "n k"], epsilon: float, iterations: int, total: Total | None = None
) -> Float[Tensor, "n k"]:
    """Balanced soft assignment of n features to k prototypes (Cuturi, NeurIPS 2013).

    After any number of iterations it is n times the plan of `skysense.analysis.sinkhorn`, and in
    the limit n times that of `ot.sinkhorn` with equal masses.

    Args:
        scores: Similarities; higher means closer.
        epsilon: Entropy, above 0; small values approach a hard assignment.
        iterations: Alternations of column and row scaling, at least 1.
        total: Sum over the processes among which the features are spread; None = there is one.
            Some may hold none. With several processes, the scores of two may differ by at most 700
            epsilon in one column (cosines: epsilon of at least 0.003).

    Returns:
        Rows that sum to 1, columns that sum to about (features of all processes) / k.
    """
    logits = scores / epsilon
    if total is None and len(logits):
        # Two vectors scale one matrix as long as its exponentials can be told from zero.
        reach = 300.0 if logits.dtype == torch.float64 else 40.0
        low, high = torch.aminmax(logits)
        if bool(high - low <= reach):
            plan = (logits - high).exp()
            rows, columns = (plan.new_ones(n) for n in plan.shape)
            share = len(plan) / len(columns)
            for _ in range(iterations):
                columns = share / (rows @ plan)  # every prototype gets the same share
                rows = 1 / (plan @ columns)  # every feature is spent once
            return plan.mul_(columns).mul_(rows[:, None])
    for _ in range(iterations):
        logits = logits - _log_sum(logits, total)
        logits = logits - logits.logsumexp(1, keepdim=True)
    return logits.exp()


def _log_sum(logits: Tensor, total: Total | None) -> Tensor:
    """Logarithm of Σ exp of each column, over the rows of all processes: (1, k)."""
    here = logits.logsumexp(0, keepdim=True)  # -inf where a process has no rows
    if total is None:
        return here
    here = here.double()
    some = here.isfinite()
    level, processes = total(torch.stack([here.masked_fill(~some, 0.0), some.double()]))
    level = level / processes.clamp(min=1)  # keeps the exponentials in range; cancels out
    return (level + total((here - level).exp()).log()).to(logits.dtype)


@torch.no_grad()
def updated_bank(
    bank: Float[Tensor, "k d"],
    features: Float[Tensor, "n d"],
    config: PrototypeConfig,
    total: Total | None = None,
) -> Float[Tensor, "k d"]:
    """One step of the bank: P ← m P + (1 − m) P̄, with P̄ = Sᵀ F scaled to a mean.

    Args:
        bank: Prototypes of one cell.
        features: Fused features seen there; rows with NaN are left out.
        config: Epsilon, iterations and momentum.
        total: Sum over processes that hold further features; None = there are none.
    """
    features = features[features.isfinite().all(1)].to(bank.dtype)
    s = sinkhorn(_cosine(features, bank), config.epsilon, config.iterations, total)
    sums = torch.cat([s.T @ features, s.sum(0)[:, None]], dim=1)  # k d+1
    sums = sums if total is None else total(sums)
    mass = sums[:, -1:]
    mean = sums[:, :-1] / mass.clamp(min=torch.finfo(mass.dtype).tiny)
    moved = config.momentum * bank + (1 - config.momentum) * mean
    return torch.where(mass > 0, moved, bank)


def _cosine(features: Tensor, bank: Tensor) -> Tensor:
    """(n, k) cosine of each feature with each prototype."""
    return F.normalize(features, dim=1) @ F.normalize(bank, dim=1).T


def _placed_anew(
    bank: Tensor, unused: Tensor, features: Tensor, total: Total, *, always: bool
) -> tuple[Tensor, Tensor]:
    """The bank with its unused prototypes at features that the others explain worst.

    Each goes to a mean of features with weights exp(score / SHARPNESS), in effect to the few that
    score highest; the score is 1 − the best cosine with a prototype so far, plus the cosine with a
    direction of the prototype's own, which decides between places that are explained equally badly.
    A mean, unlike the one worst feature, is a sum over processes and changes smoothly with rounding.

    Args:
        bank: (k, d).
        unused: (k,) bool.
        features: (n, d), finite; n may be 0 on some processes.
        total: Sum over processes.
        always: Also where all features are explained well already.

    Returns:
        The bank, and which prototypes were moved: (k,) bool.
    """
    bank, kept = bank.clone(), ~unused
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(bank.shape, generator=generator, dtype=torch.float64)
    directions = F.normalize(directions, dim=1).to(bank)
    unit = F.normalize(features, dim=1)
    best = _cosine(features, bank).masked_fill(~kept, -1.0).amax(1)  # n
    for slot in unused.nonzero()[:, 0].tolist():
        score = 1 - best + unit @ directions[slot]
        weight = (score.double() / SHARPNESS).exp()  # at most e^600
        sums = total(torch.cat([weight @ features.double(), weight.sum()[None]]))
        place = (sums[:-1] / sums[-1]).to(bank)
        near = _cosine(place[None], bank)[0].masked_fill(~kept, -1.0).max()
        if not always and bool(near > TWIN):
            continue
        bank[slot], kept[slot] = place, True
        best = torch.maximum(best, unit @ F.normalize(place, dim=0))
    return bank, kept & unused


def _untouched(shape: tuple[int, ...], dtype: Any = np.float32) -> Tensor:
    """Zeros that take no memory before they are written to."""
    return torch.from_numpy(np.zeros(shape, dtype))


class Prototypes(nn.Module):
    """The banks of all cells, and the map from fused features to their width if that differs.

    A bank gets no gradient. It may be larger than memory, so it is one tensor on the processor that
    stays there, in its own type, whatever becomes of the module: its memory may be a file
    (`map_to`, or a checkpoint), of which only the cells that are read or written are ever loaded.

    Attributes:
        bank: (cells, count, d).
        trained: (cells,) bool, which of them ever saw a feature.
        usage: (cells, count), share of the features nearest to each prototype, averaged over the
            updates as the bank is.
    """

    def __init__(self, config: PrototypeConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.query = nn.Linear(width, config.dim) if config.dim else None
        self.bank = _untouched((config.cells, config.count, config.dim or width))
        self.trained = _untouched((config.cells,), bool)
        self.usage = _untouched((config.cells, config.count))

    def forward(self, cell: Int[Tensor, " b"]) -> tuple[Float[Tensor, "b k d"], Bool[Tensor, " b"]]:
        """Banks of cells, and which of them were ever trained. Cell −1 means none."""
        cell = self._checked(cell)
        known = cell.clamp(min=0)
        return self.bank[known], self.trained[known] & (cell >= 0)

    def queries(self, features: Float[Tensor, "b width h w"]) -> Float[Tensor, "b d h w"]:
        """Fused features as the prototypes know them."""
        if self.query is None:
            return features
        features = features.to(self.query.weight.dtype)
        return self.query(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    @torch.no_grad()
    def update(
        self,
        features: Float[Tensor, "b width h w"],
        cell: Int[Tensor, " b"],
        total: Total | None = None,
    ) -> BankUpdate:
        """Let the banks of the cells at hand follow these features.

        Args:
            features: Fused features without context; those with NaN are left out.
            cell: Cell of each batch element, −1 = none.
            total: Sum over the processes that train together, all of which must call this in the
                same step, each with its own part of the batch. Their banks then stay equal; they may
                be one file.
        """
        with torch.autocast(features.device.type, enabled=False):
            return self._update(self.queries(features.detach()), cell, total)

    def _update(self, tokens: Tensor, cell: Tensor, total: Total | None) -> BankUpdate:
        self._make_writable()
        tokens = tokens.permute(0, 2, 3, 1)  # b h w d
        if tokens.device.type == "mps":  # has no float64
            tokens = tokens.cpu()
        owner = self._checked(cell).to(tokens.device)[:, None, None].expand(tokens.shape[:3])
        keep = tokens.isfinite().all(-1) & (owner >= 0)  # b h w
        rows, owner = tokens[keep].to(self.bank.dtype), owner[keep]
        counts = owner.bincount(minlength=self.config.cells).to(self.bank.dtype)
        counts = counts if total is None else total(counts)
        present = counts.nonzero()[:, 0].tolist()
        reseeded = 0
        for index in present:
            reseeded += self._follow(index, rows[owner == index], counts[index], total)
        return BankUpdate(len(present), int(counts.sum()), reseeded)

    def _follow(self, index: int, rows: Tensor, count: Tensor, total: Total | None) -> int:
        """Update one cell; the number of prototypes that were unused and placed anew."""
        k, everywhere = self.config.count, total or _alone
        new = not bool(self.trained[index])
        bank, usage = self.bank[index].to(rows), self.usage[index].to(rows)
        twin = (_cosine(bank, bank).tril(-1) > TWIN).any(1)
        unused = (usage < SMALLEST_SHARE / k) | twin
        moved = torch.zeros_like(unused)
        if bool(unused.any()):
            bank, moved = _placed_anew(bank, unused, rows, everywhere, always=new)
            usage = usage.masked_fill(moved, 1 / k)
        nearest = _cosine(rows, bank).argmax(1).bincount(minlength=k)
        share = everywhere(nearest.to(rows.dtype)) / count
        m = self.config.momentum
        self.bank[index] = updated_bank(bank, rows, self.config, total).to(self.bank)
        self.usage[index] = (m * usage + (1 - m) * share).to(self.usage)
        self.trained[index] = True
        return 0 if new else int(moved.sum())

    def map_to(self, path: Path) -> None:
        """Keep the bank in a file from now on, in single precision; cells never trained take no room.

        Args:
            path: An `.npy` file that does not exist yet. It is what the bank is at any moment, also
                after a crash; a checkpoint holds its own copy.

        Raises:
            EncoderError: The file exists.
        """
        path = Path(path)
        if path.exists():
            raise EncoderError(
                f"{path} exists already; give a new file, as the bank of another run may be in it."
            )
        shape = tuple(self.bank.shape)
        bank = torch.from_numpy(np.lib.format.open_memmap(path, "w+", np.float32, shape))
        for index in self.trained.nonzero()[:, 0].tolist():
            bank[index] = self.bank[index].float()
        self.bank = bank

    def share(self, other: "Prototypes") -> None:
        """Read and update another model's banks from now on: a teacher's those of its student."""
        other._make_writable()
        self.bank, self.trained, self.usage = other.bank, other.trained, other.usage

    def halve(self) -> None:
        """Keep banks in half precision, as shipped weights are; an update makes them single again."""
        self.bank, self.usage = self.bank.half(), self.usage.half()

    def _make_writable(self) -> None:
        """Single precision at least: less could not follow a momentum near 1."""
        if self.bank.element_size() < 4:
            self.bank, self.usage = self.bank.float(), self.usage.float()

    def _checked(self, cell: Tensor) -> Tensor:
        cell = cell.cpu()
        if cell.numel() and not -1 <= int(cell.min()) <= int(cell.max()) < len(self.bank):
            raise EncoderError(
                f"Cells {int(cell.min())} to {int(cell.max())} were given, but this model holds "
                f"banks for cells 0 to {len(self.bank) - 1}; use -1 for a place outside them."
            )
        return cell

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.config.cells:
            destination.update({prefix + name: getattr(self, name) for name in STATE})

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        for name in STATE if self.config.cells else ():
            given, held = state_dict.pop(prefix + name, None), getattr(self, name)
            if given is None:
                missing_keys.append(prefix + name)
            elif given.shape != held.shape:
                error_msgs.append(
                    f"{prefix}{name} is {tuple(given.shape)} instead of {tuple(held.shape)}."
                )
            elif local_metadata.get("assign_to_params_buffers"):
                setattr(self, name, given.detach().cpu())
            else:
                held.copy_(given)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def _alone(x: Tensor) -> Tensor:
    return x
