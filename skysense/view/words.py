"""What stands beside a picture: where it comes from, and what about it is not real."""

from collections.abc import Mapping
from typing import Any

import xarray as xr

from skysense.checks import as_number, shown
from skysense.errors import AnalysisError
from skysense.sensors import SENSORS
from skysense.view.hues import PALETTE


def title(field: xr.DataArray) -> str:
    """What a field shows, in a few words."""
    attrs = _attrs(field)
    name = str(attrs.get("long_name") or field.name or attrs.get("kind", "field"))
    if attrs.get("target"):
        name += f" to {attrs['target']}"
    for axis, words in (("dropped", "without"), ("attended", "of")):
        if axis in field.coords and not field[axis].ndim:
            name += f": {words} {field[axis].item()}"
    if attrs.get("faded_by"):
        name += "; opaque = certain"
    return name


def caption(field: xr.DataArray) -> str:
    """Where a field comes from, in one line: encoder, weights, sensors, dates, what is missing.

    UNTRAINED stands for random weights and SYNTHETIC for a scene that no satellite saw, wherever
    one of the inputs was such; SHUFFLED for a null model, UNFINISHED for what is not done yet.
    """
    return " · ".join(part for part in (*warnings(field), *_parts(_attrs(field))) if part)


def warnings(field: xr.DataArray) -> list[str]:
    """What must be written on the picture.

    `UNTRAINED ...`, `SYNTHETIC scene`, `APPROXIMATE position`, `SHUFFLED cells` for a null model,
    `UNFINISHED ...` for what was seen before the work was done.
    """
    attrs = _attrs(field)
    found = []
    for prefix in ("", "bank_", "basis_", "before_", "other_"):
        weights = str(attrs.get(f"{prefix}weights", ""))
        if attrs.get(f"{prefix}untrained") or weights.startswith("random"):
            found.append(f"UNTRAINED {weights}".strip())
        if attrs.get(f"{prefix}synthetic"):
            found.append("SYNTHETIC scene")
        if attrs.get(f"{prefix}approximate"):
            found.append("APPROXIMATE position")
        if attrs.get(f"{prefix}shuffled"):
            found.append("SHUFFLED cells")
        if left := as_number(attrs.get(f"{prefix}unfinished", 0)):
            found.append(f"UNFINISHED, {left:.0%} to do")
    return list(dict.fromkeys(found))


def credit(field: xr.DataArray) -> str:
    """Licences of the images and of the weights, as far as they are stated."""
    attrs = _attrs(field)
    data = attrs.get("data_licence") or attrs.get("licence")
    weights = attrs.get("weights_licence")
    return "; ".join(
        text
        for text in (
            f"Images: {data}" if data else "",
            f"Weights: {weights}" if weights else "",
        )
        if text
    )


def _attrs(field: xr.DataArray) -> Mapping[str, Any]:
    if not isinstance(field, xr.DataArray):
        raise AnalysisError(f"{shown(field)} is not a field; give a DataArray with attributes.")
    return field.attrs


def _parts(attrs: Mapping[str, Any]) -> list[str]:
    parts = [str(attrs.get("encoder", ""))]
    weights = str(attrs.get("weights", ""))
    if weights.startswith("sha256:"):
        parts.append(f"weights {weights[7:15]}")
    for key in SENSORS:
        days = attrs.get(f"dates_{key}")
        if days is not None and len(days):
            noun = "date" if len(days) == 1 else "dates"
            parts.append(f"{len(days)} {SENSORS[key].title} {noun}")
        elif key in list(attrs.get("sensors", [])):
            parts.append(SENSORS[key].title)
    if attrs.get("faded_by"):
        parts.append(f"fainter where there is more {attrs['faded_by']}")
    if attrs.get("date"):
        parts.append(str(attrs["date"]))
    missing = list(attrs.get("missing_bands", []))
    if missing:
        parts.append(f"without {', '.join(str(b) for b in missing)}")
    fitted = list(attrs.get("bank_fitted_on", attrs.get("basis_fitted_on", [])))
    if fitted and fitted != ["place"]:
        parts.append(f"fitted on {', '.join(str(name) for name in fitted)}")
    if float(attrs.get("resolution", 0) or 0) > 10:
        parts.append(f"one 10 m cell in every {float(attrs['resolution']):g} m block")
    if len(attrs.get("categories", [])) > len(PALETTE):
        parts.append(f"colours repeat every {len(PALETTE)}")
    licence = attrs.get("data_licence") or attrs.get("licence")
    parts.append(str(licence) if licence else "")
    return parts
