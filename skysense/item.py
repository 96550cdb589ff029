"""A STAC item beside a feature file: what it is, where, when, from which images, by which model.

Fields of the extensions `emb` 0.0.1 (a proposal), `mlm` 1.5.2, `projection` 2.0.0 and `processing`
1.2.0. The item keeps to STAC 1.0.0, which `emb` 0.0.1 asks for; pystac reads it as any other.
"""

import datetime as dt
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pystac
import shapely
import xarray as xr

from skysense import __version__
from skysense.analysis.pixels import check_features, geobox_of
from skysense.conventions import code_of, days, model_uri, sources
from skysense.disk import path_of, written
from skysense.errors import AnalysisError
from skysense.export import check_free, plain
from skysense.sensors import SENSORS
from skysense.sources.profiles import PROFILES

DATA = {
    ".zarr": "application/vnd+zarr; version=3",
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".tiff": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".parquet": "application/vnd.apache.parquet",
}
"""Endings of feature files, and their media types."""

EXTENSIONS = [
    "https://stac-extensions.github.io/embeddings/v0.0.1/schema.json",
    "https://stac-extensions.github.io/mlm/v1.5.2/schema.json",
    "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
]

PAPERS = {
    "SkySense V1": ("https://arxiv.org/abs/2312.10115", "SkySense, CVPR 2024"),
    "SkySense V2": ("https://arxiv.org/abs/2507.13812", "SkySense V2, ICCV 2025"),
}

STAC_VERSION = "1.0.0"


def save_item(
    features: xr.DataArray,
    path: str | Path,
    overwrite: bool = False,
    *,
    data: str | Path | None = None,
) -> Path:
    """Write a STAC item for a feature file; `pystac.read_file(path)` opens it.

    Args:
        features: (feature, y, x), as they are in the file.
        path: A file ending in `.json`, in the folder of the feature file or above it.
        overwrite: Replace what is there.
        data: The feature file; if None, the one of the same name ending in `.zarr`, `.tif` or
            `.parquet`.

    Returns:
        The path. The feature file is the asset `embeddings`; licences of images and weights are in
        `license` and as sentences in `skysense:data_licence` and `skysense:weights_licence`.

    Raises:
        AnalysisError: If these are no features, the feature file is not there, or the path is taken
            or cannot be written.
    """
    check_features(features)
    path = check_free(path, (".json",), overwrite)
    content = _item(features, path.stem, _beside(path, data))
    with written(path, AnalysisError) as partial:
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", "utf-8")
    return path


def _beside(path: Path, data: str | Path | None) -> Path:
    """The feature file, relative to the item."""
    if data is None:
        found = [path.with_suffix(end) for end in DATA if path.with_suffix(end).exists()]
        if not found:
            raise AnalysisError(
                f"There is no feature file {path.stem} ({', '.join(DATA)}) beside {path}. Write it "
                "first with save_features, or pass data=."
            )
        return Path(found[0].name)
    given = path_of(data, AnalysisError, "data")
    if given.suffix.lower() not in DATA or not given.exists():
        raise AnalysisError(
            f"data={str(given)!r} is no feature file; give one that is there and ends in "
            f"{', '.join(DATA)}."
        )
    try:
        return given.resolve().relative_to(path.parent.resolve())
    except ValueError as error:
        raise AnalysisError(
            f"{given} does not lie in the folder of {path} or below it, so the item could not be "
            "moved with it. Write the item beside the features."
        ) from error


def _item(features: xr.DataArray, name: str, data: Path) -> dict[str, Any]:
    geobox, attrs = geobox_of(features), plain(features.attrs)
    outline = geobox.geographic_extent.geom
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    item = pystac.Item(
        id=re.sub(r"[^\w.-]", "_", name),
        geometry=shapely.geometry.mapping(outline),
        bbox=list(outline.bounds),
        properties={
            **_model(features.sizes["feature"], attrs),
            **_embedding(geobox, attrs),
            "proj:code": code_of(geobox) or None,
            "proj:shape": list(geobox.shape),
            "proj:transform": [float(v) for v in geobox.transform[:6]],
            "proj:bbox": [float(v) for v in geobox.boundingbox.bbox],
            "processing:software": {"skysense": str(attrs.get("version", __version__))},
            "processing:datetime": now.isoformat().replace("+00:00", "Z"),
            **({"license": "various"} if attrs.get("data_licence") else {}),
            "gsd": float(abs(geobox.resolution.x)),
        },
        **_when(attrs, now),
    )
    media = DATA[data.suffix.lower()]
    item.add_asset(
        "embeddings",
        pystac.Asset(f"./{data.as_posix()}", "Features", media_type=media, roles=["data"]),
    )
    item.add_asset(
        "model",
        pystac.Asset(
            model_uri(attrs),
            "The encoder and its weights, by name: they are not shipped with the features",
            roles=["mlm:model"],
            extra_fields={"mlm:artifact_type": _artifact(str(attrs.get("weights", "")))},
        ),
    )
    if found := PAPERS.get(_architecture(str(attrs.get("encoder", "")))):
        item.add_link(pystac.Link("cite-as", found[0], "text/html", found[1]))
    for href in scenes(attrs):
        item.add_link(pystac.Link("emb:source-data", href, "application/geo+json"))
    item.stac_extensions = list(EXTENSIONS)
    content = item.to_dict(include_self_link=False, transform_hrefs=False)
    return {**content, "stac_version": STAC_VERSION}


def scenes(attrs: Mapping[str, Any]) -> list[str]:
    """Addresses of the items that the images came from, unsigned; only built-in catalogues have some."""
    found = [profile for profile in PROFILES.values() if profile.title == attrs.get("source")]
    if not found:
        return []
    root, collections = found[0].address, found[0].collections
    return [
        f"{root}/collections/{collections[key].ids[0]}/items/{quote(name)}"
        for key in SENSORS
        if key in collections
        for passed in attrs.get(f"items_{key}", [])
        for name in str(passed).split()
    ]


def _when(attrs: Mapping[str, Any], now: dt.datetime) -> dict[str, Any]:
    """The period of the images; without a known date the moment of writing, as STAC wants one."""
    known = days(attrs)
    if not known:
        return {"datetime": now}
    first, last = (
        dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC) for day in (known[0], known[-1])
    )
    end = last + dt.timedelta(days=1, seconds=-1)
    return {"datetime": None, "start_datetime": first, "end_datetime": end}


def _artifact(weights: str) -> str:
    if weights.startswith("sha256:"):
        return "safetensors.torch.save_file"
    return "seeded random numbers" if weights.startswith("random") else "none"


def _model(dim: int, attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the extension `mlm`."""
    name = str(attrs.get("encoder", ""))
    named = re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]", name)
    learnt = str(attrs.get("weights", "")).startswith("sha256:") and not attrs.get("untrained")
    sensors = [str(key) for key in attrs.get("sensors", [])]
    inputs = [
        {
            "name": SENSORS[key].title,
            "description": f"Dates of the bands {', '.join(SENSORS[key].names)}, in "
            f"{SENSORS[key].units}",
            "input": {
                "shape": [-1, -1, len(SENSORS[key].names), -1, -1],
                "dim_order": ["batch", "time", "channel", "height", "width"],
                "data_type": "float32",
            },
        }
        for key in sensors
        if key in SENSORS
    ]
    result = {
        "shape": [-1, dim, -1, -1],
        "dim_order": ["batch", "embedding", "height", "width"],
        "data_type": "float32",
    }
    tasks = ["similarity-search", "semantic-segmentation"]
    return {
        "mlm:name": name if named else "unnamed encoder",
        "mlm:architecture": _architecture(name),
        "mlm:tasks": tasks,
        "mlm:framework": "PyTorch",
        "mlm:pretrained": learnt,
        **({} if learnt else {"mlm:pretrained_source": None}),
        "mlm:input": inputs,
        "mlm:output": [{"name": "features", "tasks": tasks, "result": result}],
    }


def _architecture(name: str) -> str:
    """What an encoder is, by its name."""
    if name.startswith("skysense"):
        return "SkySense V2" if name.startswith("skysense-v2") else "SkySense V1"
    return name or "unknown"


def _embedding(geobox: Any, attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the extension `emb`, and what it has no word for."""
    kept = ("encoder", "weights", "untrained", "merge", "resolution", "device", "dtype", "threads",
            "batch_size", "sensors", "missing_bands", "dates_hr", "dates_s2",
            "dates_s1")  # fmt: skip
    notes = [str(note) for note in attrs.get("notes", [])]
    return {
        "emb:runtime_parameters": {key: attrs[key] for key in kept if key in attrs},
        "emb:spatial_coverage": f"{geobox.shape[0]} × {geobox.shape[1]} cells of "
        f"{abs(geobox.resolution.x):g} m",
        "skysense:source_data": sources(attrs),
        "skysense:data_licence": str(attrs.get("data_licence", "")),
        "skysense:weights_licence": str(attrs.get("weights_licence", "")),
        "skysense:synthetic": bool(attrs.get("synthetic", 0)),
        "skysense:notes": notes,
    }
