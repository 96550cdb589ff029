"""What the semantic queries of SkySense V2 look at, as maps: a share for each query at each cell.

How much a query likes a cell is a number that depends on that cell alone. Training takes the softmax of
it over all cells of a view, so a constant added to one query's numbers changes nothing, and queries can
be compared with each other only above a *level* of each. Here that is what a query gives to fixed
features, never to the rectangle that is looked at: `docs/decisions/v2.md` says why.
"""

from typing import Any

import numpy as np
import torch
import xarray as xr

from skysense.analysis.pixels import Places, check_features, field_like, named, provenance, table
from skysense.checks import shown
from skysense.encoders import Encoder, SkySenseEncoder
from skysense.errors import AnalysisError, EncoderError
from skysense.model import SkySenseV2
from skysense.plan import check_encoder

CHUNK = 65_536
"""Cells that are scored at once."""


def query_masks(
    features: xr.DataArray, encoder: Encoder, levels: xr.DataArray | None = None
) -> xr.DataArray:
    """How the looks at each cell are shared out among the semantic queries of SkySense V2.

    A softmax over the queries of how much each likes the cell, above its level, at every cell by
    itself: with the same `levels` a cell has the same value in whatever rectangle it is.

    Args:
        features: (feature, y, x) that this encoder made; geo-context in them is left aside.
        encoder: A SkySense V2 encoder with queries.
        levels: From `query_levels`. None: what each query gives a feature whose numbers are all equal,
            which needs no place, but lets one query lead everywhere if it likes what places have in
            common.

    Returns:
        (query, y, x) shares, 0..1, that sum to 1 over the queries; NaN where nothing was seen. One
        query, `.isel(query=0)`, is a continuous field; `leading_query` makes one map of all.

    Raises:
        EncoderError: For another encoder, or a model without queries.
        AnalysisError: The features are another encoder's, or the levels are none of it.
    """
    model = _asking(encoder)
    _check_made(features, encoder)
    liking = _liking(model, np.asarray(features.values, np.float32))  # m y x
    level = _blank(model) if levels is None else _checked(levels, encoder, len(liking))
    above = liking - level[:, None, None]
    with np.errstate(invalid="ignore"):
        share = np.exp(above - above.max(0))
        share /= share.sum(0)
    attrs = {
        **(provenance(features) if levels is None else provenance(features, basis=levels)),
        "kind": "continuous",
        "family": "query",
        "long_name": "share of the looks among semantic queries",
        "units": "share",
        "levels": "an average cell of fixed places" if levels is not None else "a blank feature",
    }
    names = [f"query {i + 1}" for i in range(len(share))]
    return field_like(features, share.astype(np.float32), attrs, ("query", names))


def query_levels(places: Places, encoder: Encoder) -> xr.DataArray:
    """What each semantic query gives to an average cell of some places, to compare queries by.

    With these, a share above 1 / queries says that a query looks at a cell more than at the average
    cell of these places: what training does with a view, for cells that do not change with the view.

    Args:
        places: Features of one place, of several, or of several with names, of this encoder.
        encoder: A SkySense V2 encoder with queries.

    Returns:
        (query,) float64, the logarithm of the mean over all cells of exp(liking). `attrs` say what
        they were fitted on.

    Raises:
        EncoderError: As `query_masks`.
        AnalysisError: The features are another encoder's, or nothing was seen.
    """
    model, found = _asking(encoder), named(places)
    rows = []
    for each in found.values():
        _check_made(each, encoder)
        rows.append(table(each).values)
    liking = _liking(model, np.concatenate(rows).T[:, :, None])[..., 0]  # m n
    most = liking.max(1)
    level = most + np.log(np.exp(liking - most[:, None]).mean(1))
    first = next(iter(found.values()))
    attrs = {**provenance(first), "long_name": "levels of semantic queries"}
    attrs["fitted_on"] = list(found)
    for key in ("synthetic", "approximate"):
        attrs[key] = max((each.attrs.get(key, 0) for each in found.values()), key=bool)
    names = [f"query {i + 1}" for i in range(len(level))]
    return xr.DataArray(level, {"query": names}, ("query",), "levels", attrs)


def leading_query(masks: xr.DataArray) -> xr.DataArray:
    """Which query looks at each cell most.

    Args:
        masks: (query, y, x) of `query_masks`.

    Returns:
        (y, x) categorical, numbers of queries from 0 (`query 1`, ...), NaN where nothing was seen; the
        coordinate `strength` is its share, from 1 / queries to 1.

    Raises:
        AnalysisError: If these are no masks.
    """
    if not isinstance(masks, xr.DataArray) or masks.dims != ("query", "y", "x"):
        found = masks.dims if isinstance(masks, xr.DataArray) else shown(masks)
        raise AnalysisError(
            f"Masks are a DataArray (query, y, x), not {found}; query_masks(features, encoder) makes "
            "them."
        )
    values = np.asarray(masks.values)
    seen = np.isfinite(values).all(0)
    attrs = {
        **masks.attrs,
        "kind": "categorical",
        "long_name": "the semantic query that looks here most",
        "units": "",
        "categories": [str(name) for name in masks["query"].values],
    }
    most = np.where(seen, np.nan_to_num(values).argmax(0), np.nan).astype(np.float32)
    strength = np.where(seen, np.nan_to_num(values).max(0), np.nan).astype(np.float32)
    return field_like(masks, most, attrs).assign_coords(strength=(("y", "x"), strength))


@torch.inference_mode()
def _liking(model: SkySenseV2, values: np.ndarray) -> np.ndarray:
    """(m, y, x) float64 scores of features (d, y, x), in pieces."""
    width, (rows, columns) = model.config.fusion.dim, values.shape[1:]
    flat = values[:width].reshape(width, -1)
    parts = []
    for start in range(0, flat.shape[1], CHUNK):
        piece = torch.from_numpy(np.ascontiguousarray(flat[:, start : start + CHUNK]))
        piece = piece.to(next(model.parameters()))[None, :, :, None]  # 1 d n 1
        parts.append(model.query_scores(piece)[0, :, :, 0].double().cpu().numpy())
    return np.concatenate(parts, 1).reshape(-1, rows, columns)


def _blank(model: SkySenseV2) -> np.ndarray:
    """(m,) what each query gives a feature whose numbers are all equal."""
    return _liking(model, np.zeros((model.config.fusion.dim, 1, 1), np.float32))[:, 0, 0]


def _asking(encoder: Encoder) -> SkySenseV2:
    """The model of an encoder that has queries."""
    check_encoder(encoder)
    if not isinstance(encoder, SkySenseEncoder) or not isinstance(encoder.model, SkySenseV2):
        raise EncoderError(
            f"{encoder.name} has no semantic queries; only SkySense V2 has. Load a SkySense V2 encoder "
            "and embed the place with it."
        )
    if encoder.model.queries is None:
        raise EncoderError(
            f"The weights of {encoder.name} hold no semantic queries, so there are no masks. Load a "
            "checkpoint that was trained with them."
        )
    return encoder.model


def _check_made(features: xr.DataArray, encoder: Encoder) -> None:
    """Raise `AnalysisError` unless the features are this encoder's."""
    check_features(features)
    made_by = features.attrs.get("encoder"), features.attrs.get("weights")
    if features.sizes["feature"] != encoder.dim or made_by != (encoder.name, encoder.weights):
        raise AnalysisError(
            f"These features were not made by {encoder.name} with the weights {encoder.weights}, whose "
            "queries are to look at them; embed the place with that encoder."
        )


def _checked(levels: Any, encoder: Encoder, count: int) -> np.ndarray:
    good = isinstance(levels, xr.DataArray) and levels.shape == (count,)
    if not good or levels.attrs.get("weights") != encoder.weights:
        raise AnalysisError(
            f"levels={shown(levels)} are not those of the {count} queries of {encoder.name}; "
            "query_levels(features, encoder) makes them."
        )
    return np.asarray(levels.values, np.float64)
