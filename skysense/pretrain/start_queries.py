"""Where semantic queries begin: clearly preferring some cells to others.

Added to the paper. Fused features share most of what they are, so the scores of random queries differ by
little from cell to cell. Each query then takes the mean of its view (the entropy of its attention was 0.99
of the most), and nearly no gradient reaches what it looks at. So the keys of their attention start
less their mean, and so much larger that a query's scores differ by `SHARP`. Which cells a query prefers
stays random; the means of classes differ in that from the start.
"""

from collections.abc import Sequence

import torch

from skysense.model import TemporalModel
from skysense.pretrain.step import look
from skysense.pretrain.views import Pair

SHARP = 2.0
"""Deviation of a query's scores over cells, in each head: one deviation more is e² times the attention.
The entropy of attention is 0.89 of the most then."""


@torch.no_grad()
def start_queries(model: TemporalModel, examples: Sequence[Pair]) -> None:
    """Give the queries' attention keys that tell cells apart.

    Args:
        model: A model that was started; it changes in place, one without queries does not.
        examples: Pairs of views, without augmentation.
    """
    queries, width = model.queries, model.config.fusion.dim
    if queries is None:
        return
    views = [look(model, pair, 0) for pair in examples]
    seen = torch.cat([view.fused[..., :width][view.seen] for view in views])
    if len(seen) < 2:  # where one cell or none was seen, there is nothing to tell apart
        return
    keys = slice(width, 2 * width)
    weight, bias = queries.attn.qkv.weight[keys], queries.attn.qkv.bias[keys]
    bias.copy_(-(weight @ queries.ln_fused(seen).mean(0)))
    loud = SHARP / queries.logits(seen[None]).var(-1).mean().sqrt()
    weight *= loud
    bias *= loud
