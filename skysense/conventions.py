"""What feature files say about themselves in the words of others, so that tools find grid and model.

Zarr stores declare `proj` and `spatial` version 1 (https://github.com/zarr-conventions) and
`geoemb` version 1 (https://github.com/geo-embeddings/embeddings-zarr-convention, a proposal).
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from odc.geo.geobox import GeoBox

from skysense import __version__

_ZARR = "https://raw.githubusercontent.com/zarr-conventions"
_GEOEMB = "geo-embeddings/embeddings-zarr-convention"

CONVENTIONS = [
    {
        "schema_url": f"{_ZARR}/geo-proj/refs/tags/v1/schema.json",
        "spec_url": "https://github.com/zarr-conventions/geo-proj/blob/v1/README.md",
        "uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f",
        "name": "proj",
        "description": "Coordinate reference system information for geospatial data",
    },
    {
        "schema_url": f"{_ZARR}/spatial/refs/tags/v1/schema.json",
        "spec_url": "https://github.com/zarr-conventions/spatial/blob/v1/README.md",
        "uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4",
        "name": "spatial",
        "description": "Spatial coordinate information",
    },
    {
        "schema_url": f"https://raw.githubusercontent.com/{_GEOEMB}/refs/tags/v1/schema.json",
        "spec_url": f"https://github.com/{_GEOEMB}/blob/v1/README.md",
        "uuid": "61c12cc5-0e28-4056-999a-480cf3fb7e4c",
        "name": "geoemb:",
        "description": "Geoembeddings convention for geospatial embedding arrays with model "
        "provenance",
    },
]


def group_attrs(geobox: GeoBox, dim: int, attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of the root of a Zarr store with features.

    Args:
        geobox: Grid of the features.
        dim: Number of features.
        attrs: What the features say about themselves.
    """
    return {
        "zarr_conventions": CONVENTIONS,
        "proj:code": code_of(geobox),
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": [float(v) for v in geobox.transform[:6]],
        "spatial:shape": list(geobox.shape),
        "spatial:bbox": [float(v) for v in geobox.boundingbox.bbox],
        "spatial:registration": "pixel",
        "geoemb:type": "pixel",
        "geoemb:dimensions": int(dim),
        "geoemb:model": model_uri(attrs),
        "geoemb:source_data": sources(attrs),
        "geoemb:data_type": "float32",
        "geoemb:gsd": float(abs(geobox.resolution.x)),
        "geoemb:build_version": str(attrs.get("version", __version__)),
    }


def code_of(geobox: GeoBox) -> str:
    """The CRS as `EPSG:32631`; empty if it has no number."""
    number = geobox.crs.to_epsg() if geobox.crs is not None else None
    return f"EPSG:{number}" if number else ""


def model_uri(attrs: Mapping[str, Any]) -> str:
    """A name of encoder and weights; no address, as weights are never shipped."""
    name, weights = (str(attrs.get(key) or "unknown") for key in ("encoder", "weights"))
    return f"urn:skysense:{quote(name)}:{quote(weights, safe=':()=')}"


def sources(attrs: Mapping[str, Any]) -> list[str]:
    """Where the images came from, and the name of every image if it has one."""
    items = [str(item) for key in ("hr", "s2", "s1") for item in attrs.get(f"items_{key}", [])]
    return [str(attrs.get("source") or "unknown"), *dict.fromkeys(i for i in items if i)]


def days(attrs: Mapping[str, Any]) -> list[str]:
    """Every known ISO day that entered the features, in order, once."""
    found = {str(day) for key in ("hr", "s2", "s1") for day in attrs.get(f"dates_{key}", [])}
    return sorted(found - {"unknown", ""})
