"""The geo-context prototypes of a model, as arrays on the map: which cells, what is in them.

They speak of the fused features: the first `config.fusion.dim` of what the encoder makes, or, where
a learned map brings those to another width, of what `queries_of` makes of them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from skysense.batch import centres
from skysense.cells import Division, division
from skysense.errors import EncoderError
from skysense.model import TemporalModel
from skysense.region import Region
from skysense.windows import Lattice, Window

NO_BANK = (
    "{} holds no geo-context prototypes. fit_prototypes(features) fits a bank to what you loaded."
)


def earth_of(model: TemporalModel) -> Division | None:
    """The cells of the Earth that a model's prototypes belong to; None if it holds none."""
    p = model.config.prototypes
    return division(p.cells, p.division) if p.cells else None


def context_of(encoder: Any, lattice: Lattice, windows: Sequence[Window]) -> dict[str, str | int]:
    """What features of these windows must say of their geo-context; nothing if no encoder of ours."""
    if not hasattr(encoder, "context"):
        return {}
    lon, lat = centres(lattice, windows).double().numpy().T
    return encoder.context(lon, lat)


def said_of(model: TemporalModel, lon: np.ndarray, lat: np.ndarray) -> dict[str, str | int]:
    """What features must say about the geo-context they were made with.

    Args:
        model: Their model.
        lon: (windows,) centres of the windows, degrees; NaN = unknown.
        lat: (windows,).

    Returns:
        `context`: which cells, and whether their prototypes were trained; `fused_features`, if
        there is a context: the features after so many are the context.
    """
    if not model.config.prototypes.context:
        return {"context": "none: this model has no geo-context"}
    facts: dict[str, str | int] = {"fused_features": model.config.fusion.dim}
    earth = earth_of(model)
    if earth is None:
        return facts | {"context": "this model holds no prototypes: zeros"}
    cells = np.unique(earth.cell_of(lon, lat)).tolist()
    trained, untrained = _by_training(model, [cell for cell in cells if cell >= 0])
    said = [f"{_named(trained)}, trained"] if trained else []
    said += [f"{_named(untrained)}, not trained there: zeros"] if untrained else []
    said += ["places unknown: zeros"] if -1 in cells else []
    return facts | {"context": "; ".join(said)}


def bank_of(model: TemporalModel, region: Region, **provenance: Any) -> xr.DataArray:
    """The prototypes of a place, as the model learnt them; `skysense.assign` takes them.

    Args:
        model: The model.
        region: The place; every cell it shares ground with counts.
        **provenance: What else the result says about itself: `encoder`, `weights`, ...

    Returns:
        (prototype, feature) float32, cells in ascending order, those never trained left out;
        coordinates `cell` (prototype,) and `usage` (prototype,), the share of the cell's features
        that were nearest to each. `attrs` list the trained and the untrained cells.

    Raises:
        EncoderError: If the model holds no prototypes, or none were trained there.
    """
    earth = earth_of(model)
    name = str(provenance.get("encoder", model.config.name))
    if earth is None:
        raise EncoderError(NO_BANK.format(name))
    trained, untrained = _by_training(model, earth.touched(region))
    if not trained:
        raise EncoderError(
            f"The prototypes of {name} were never trained at {region.name or region.bounds} "
            f"({_named(untrained)}). fit_prototypes(features) fits a bank to what you loaded."
        )
    held, config = model.prototypes, model.config
    width = config.context_dim
    attrs = {
        **provenance,
        "long_name": "geo-context prototypes of the model",
        "region": region.name,
        "fitted_on": [f"cell {cell}" for cell in trained],
        "trained_cells": trained,
        "untrained_cells": untrained,
        "of_features": width if config.prototypes.dim else config.dim,
        "queries": int(config.prototypes.dim > 0),
    }
    rows = torch.cat([held.bank[cell] for cell in trained]).float().numpy()
    coords = {
        "prototype": np.arange(len(rows)),
        "feature": np.arange(width),
        "cell": ("prototype", np.repeat(trained, config.prototypes.count)),
        "usage": ("prototype", held.usage[trained].float().numpy().ravel()),
    }
    return xr.DataArray(rows, coords, ("prototype", "feature"), "bank", attrs)


def queries_of(
    model: TemporalModel, features: xr.DataArray, *, encoder: str, weights: str
) -> xr.DataArray:
    """Fused features as the prototypes know them.

    Args:
        model: The model.
        features: (feature, y, x) that it made.
        encoder: The name that the features must bear.
        weights: The weights that they must name.

    Returns:
        (feature, y, x), as wide as a prototype: the fused features themselves, or what the model's
        learned map makes of them.

    Raises:
        EncoderError: If the model holds no prototypes, or the features are another's.
    """
    config = model.config
    if not config.prototypes.cells:
        raise EncoderError(NO_BANK.format(encoder))
    made_by = features.attrs.get("encoder"), features.attrs.get("weights")
    if features.sizes.get("feature") != config.dim or made_by != (encoder, weights):
        raise EncoderError(
            f"These features were not made by {encoder} with the weights {weights}, whose prototypes "
            "are to read them; embed the place with that encoder."
        )
    fused = features.isel(feature=slice(0, config.fusion.dim))
    query = model.prototypes.query
    if query is None:
        return fused
    weight, bias = (t.detach().float().cpu().numpy() for t in (query.weight, query.bias))
    values = np.tensordot(weight, fused.values, 1) + bias[:, None, None]
    coords = {name: c for name, c in fused.coords.items() if "feature" not in c.dims}
    coords["feature"] = np.arange(len(values))
    return xr.DataArray(values, coords, fused.dims, "queries", {**fused.attrs, "queries": 1})


def _by_training(model: TemporalModel, cells: list[int]) -> tuple[list[int], list[int]]:
    """Those of the cells that saw features in training, and those that did not."""
    seen = model.prototypes.trained
    return [c for c in cells if seen[c]], [c for c in cells if not seen[c]]


def _named(cells: list[int]) -> str:
    """`cell 7`, or `cells 7, 8, 71`."""
    return f"cell{'s' if len(cells) > 1 else ''} {', '.join(map(str, cells))}"
