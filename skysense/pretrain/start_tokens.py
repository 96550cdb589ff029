"""How patches, merges, layers and UPHeads begin: `skysense.pretrain.start` says why."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from skysense.batch import Batch
from skysense.encoders import normalised, token_validity
from skysense.errors import EncoderError
from skysense.model.heads import UPHead
from skysense.model.layers import Layer, Patches
from skysense.model.moe import Experts
from skysense.model.swin import Block, Merge
from skysense.model.temporal import TemporalModel

RIDGE = 1e-3
"""Ridge of the decoders, in mean variances of what they read: fainter than that is noise."""

WHITENED, FAINTEST = 0.5, 1e-3
"""How far patches are whitened, 0 to 1, and what is added to the variances, in mean ones. Wholly white
the mean IoU of few clicks on six maps was 2 points lower before the first step."""

CONSTANT = 2.0
"""Size of what a token holds that is always the same, over that of the rest. The norm after V2's patches
makes all tokens of one length; a part that never changes keeps in the others how long a token was."""

BRANCH = 0.1
"""Size of the layers' branches over that of random ones."""

CONTEXT = 0.1
"""Size of the part of an UPHead that all cells of a token share, over that of random weights."""

FAINT = 0.02
"""Size of the biases of V1's high-resolution patches, as `skysense.model.init` has it for V2's. The norm
after the patches makes whatever is left of a patch of mean colour as long as any other token."""

MARK = 0.5
"""Deviation of the vector that marks a sensor."""


def quieten(parts: nn.Module) -> None:
    """Layers and blocks begin with faint branches, all experts of a layer alike."""
    for part in parts.modules():
        if isinstance(part, Block):  # a norm ends each of its branches
            part.norm1.weight *= BRANCH
            part.norm2.weight *= BRANCH
        elif isinstance(part, Layer):
            part.attn.proj.weight *= BRANCH
            mlp = part.mlp
            for each in mlp.experts if isinstance(mlp, Experts) else (mlp,):
                each.fc2.weight *= BRANCH


def unsettle(patch: Patches) -> None:
    """Let no patch be zeros, which blocks that end in norms have gradients without bound for.

    Biases of both signs in turn, so that the norm after them takes nothing away.
    """
    sign = 1 - 2 * (torch.arange(patch.out_channels) % 2)  # c
    patch.bias.copy_(FAINT * sign)


def carry(merge: Merge, generator: torch.Generator) -> None:
    """Let a token that is kept lose nothing, and merged ones give their mean and some contrasts.

    Half of the new channels hold the token, or the mean of four, turned; the others, less one, as many
    random mixtures of their three contrasts (top and bottom, left and right, crosswise). All are
    orthogonal, and to the direction that the norm after them takes away.
    """
    weight = merge.reduction.weight
    wide, width = weight.shape[0], weight.shape[1] // 4
    turn = _turn(wide, generator)  # 2c 2c-1
    mixed = torch.linalg.qr(torch.randn(3 * width, width - 1, generator=generator)).Q
    signs = torch.tensor([[1.0, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]]) / 2
    contrasts = turn[:, width:] @ mixed.T  # 2c 3c
    parts = torch.stack([turn[:, :width], *contrasts.split(width, 1)], -1)  # 2c c 4
    weight.copy_((parts @ signs).flatten(1) / math.sqrt(2))


def _turn(width: int, generator: torch.Generator) -> Float[Tensor, "c c1"]:
    """Random orthonormal directions, all there are but that in which every channel is alike."""
    frame = torch.randn(width, width, generator=generator)
    frame[:, 0] = 1
    return torch.linalg.qr(frame).Q[:, 1:]


def _cells(pixels: Float[Tensor, "b t c h w"], scale: int) -> Float[Tensor, "b t hp wp s s c"]:
    """The pixels of the cells under each token."""
    rows = pixels.unflatten(4, (-1, scale)).unflatten(3, (-1, scale))  # b t c hp s wp s
    return rows.permute(0, 1, 3, 5, 4, 6, 2)


def patches_of(
    key: str, scale: int, repeat: int, examples: Sequence[Batch]
) -> Float[Tensor, "n c s s"]:
    """Patches of which a token is made, where it is usable.

    Raises:
        EncoderError: None is.
    """
    found = []
    for batch in examples:
        pixels, usable = normalised(batch, key)  # b t c h w
        cells = _cells(pixels, scale)[token_validity(key, usable)]  # n s s c
        if repeat > 1:  # then a patch lies within one pixel
            cells = cells.flatten(0, 2)[::repeat, None, None].expand(-1, scale, scale, -1)
        found.append(cells.movedim(-1, 1))
    if not sum(map(len, found)):
        raise EncoderError(
            f"Nothing of sensor {key} is usable in the views the run would start from; look at the "
            "valid shares of its places."
        )
    return torch.cat(found)


def whiten(
    patch: Patches, examples: Float[Tensor, "n c s s"], generator: torch.Generator, normed: bool
) -> None:
    """Give patches weights that make all their components more alike, of variance 1 on average.

    Args:
        patch: It changes in place.
        examples: What it will read.
        generator: Source of the turn.
        normed: Whether a norm follows: then one direction stays empty, and one is constant.
    """
    x, width = examples.flatten(1).double(), patch.out_channels
    if normed:
        turn = _turn(width, generator)
    else:
        turn = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
    constant, turn = turn[:, 0], turn[:, 1:] if normed else turn
    variance, axes = torch.linalg.eigh(torch.cov(x.T))
    kept = turn.shape[1]
    variance, axes = variance.flip(0)[:kept], axes.flip(1)[:, :kept]  # the strongest
    scale = (variance + FAINTEST * variance.mean()) ** (-WHITENED / 2)
    scale /= (variance * scale.square()).mean().sqrt()
    turn = turn[:, : len(scale)].double() * math.sqrt(width / len(scale))
    weight = turn @ (scale[:, None] * axes.T)
    patch.weight.copy_(weight.view_as(patch.weight))
    patch.bias.copy_(-(weight @ x.mean(0)))
    if normed:
        patch.bias += CONSTANT * math.sqrt(width) * constant


def tokens_and_cells(
    model: TemporalModel, key: str, scale: int, examples: Sequence[Batch]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n cells c"], Int[Tensor, " n"]]:
    """Usable tokens of single dates, the pixels of the cells under each, and its day of the year."""
    tokens, cells, days = [], [], []
    for batch in examples:
        pixels, usable = normalised(batch, key)  # b t c h w
        valid = token_validity(key, usable)  # b t h/4 w/4
        found = model.encode_dates(key, pixels, valid)  # b t d h/4 w/4
        tokens.append(found.movedim(2, -1)[valid])
        cells.append(_cells(pixels, scale)[valid].flatten(1, 2))  # n 16 c
        days.append(batch.sensors[key].doy[..., None, None].expand_as(valid)[valid])
    return torch.cat(tokens), torch.cat(cells), torch.cat(days)


def decode(
    head: UPHead,
    tokens: Float[Tensor, "n d"],
    cells: Float[Tensor, "n cells c"],
    lift: Float[Tensor, "c o"],
    mark: Float[Tensor, " o"],
) -> None:
    """Give an UPHead the weights that find each cell's pixel, and what all cells share: context, mark."""
    each = cells.shape[1]
    found, offset = ridge(tokens, cells.flatten(1))
    context = CONTEXT * head.conv.weight.flatten(1).unflatten(0, (-1, each))[:, :1]  # o 1 d
    pixel = torch.einsum("dkc,co->okd", found.unflatten(1, (each, -1)), lift)
    head.conv.weight.copy_((context + pixel).flatten(0, 1)[..., None, None])
    head.conv.bias.copy_((offset.unflatten(0, (each, -1)) @ lift + mark).T.flatten())


def ridge(x: Float[Tensor, "n d"], y: Float[Tensor, "n k"]) -> tuple[Tensor, Tensor]:
    """Weights (d, k) and offset (k,) of the ridge regression of y on x."""
    x, y, kind = x.double(), y.double(), x.dtype
    mean, middle = x.mean(0), y.mean(0)
    gram = (x - mean).T @ (x - mean)
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    found = torch.linalg.solve(gram + ridge, (x - mean).T @ (y - middle))
    return found.to(kind), (middle - mean @ found).to(kind)
