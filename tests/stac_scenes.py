"""Real images as a catalogue would serve them: GeoTIFFs in the cloud layout, and STAC items.

The West Flanders series becomes Sentinel-2 as Planetary Computer spells it, the same scenes as
Earth Search's collection 1 (offset still in the pixels), and Sentinel-1 as linear power; the North
Dakota images become NAIP. `catalogue` is a STAC API of fixed pages for tests of faults.
"""

import json
from pathlib import Path

import numpy as np
import rasterio
import shapely
from affine import Affine
from rasterio.warp import transform_geom

CODES = {
    "blue": "B02", "green": "B03", "red": "B04", "rededge1": "B05", "rededge2": "B06",
    "rededge3": "B07", "nir": "B08", "nir08": "B8A", "swir16": "B11", "swir22": "B12",
}  # fmt: skip
USABLE = (4, 5, 6)
UTM = "EPSG:32631"
CORNER = (501360, 5629680)


def read_netcdf(path: Path, name: str) -> np.ndarray:
    """Stored numbers (time, y, x), north up, by GDAL: no netCDF library is needed."""
    with rasterio.open(f"netcdf:{path}:{name}") as file:
        data = file.read()
        return data if file.transform.e < 0 or file.transform.is_identity else data[:, ::-1]


def write_cog(
    path: Path, data: np.ndarray, transform: Affine, crs: str, nodata: float | None
) -> None:
    data = data if data.ndim == 3 else data[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="COG", count=len(data), height=data.shape[1], width=data.shape[2],
        dtype=data.dtype, crs=crs, transform=transform, nodata=nodata, compress="deflate",
        blocksize=128, overviews="NONE",
    ) as file:  # fmt: skip
        file.write(data)


def item(
    name: str, collection: str, moment: str, crs: str, transform: Affine, shape: tuple[int, int],
    assets: dict[str, dict], properties: dict, new: bool = False,
) -> dict:  # fmt: skip
    """A STAC item, in the spelling of STAC 1.0 or (new) 1.1."""
    left, top = transform.c, transform.f
    right, bottom = transform * (shape[1], shape[0])
    box = shapely.geometry.mapping(shapely.box(left, bottom, right, top))
    outline = transform_geom(crs, "EPSG:4326", box)
    grid = {"proj:shape": list(shape), "proj:transform": list(transform)[:6]}
    code = {"proj:code": crs} if new else {"proj:epsg": int(crs.removeprefix("EPSG:"))}
    return {
        "type": "Feature",
        "stac_version": "1.1.0" if new else "1.0.0",
        "stac_extensions": [],
        "id": name,
        "collection": collection,
        "geometry": outline,
        "bbox": list(shapely.geometry.shape(outline).bounds),
        "properties": {"datetime": moment, **code, **grid, **properties},
        "assets": assets,
        "links": [],
    }


def collection(name: str) -> dict:
    return {
        "type": "Collection", "stac_version": "1.0.0", "id": name, "description": name,
        "license": "CC0-1.0", "links": [],
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2009-01-01T00:00:00Z", None]]},
        },
    }  # fmt: skip


def flanders_s2(shared: Path, root: Path, base: str, dates: list[int]) -> tuple[list[dict], dict]:
    """(items as Planetary Computer writes them, stored numbers by name) of some dates."""
    folder = shared / "data/be-flanders-parcels"
    days = json.loads((folder / "meta.json").read_text())["files"]["s2_l2a_10m.nc"]["dates"]
    numbers = {}
    for band, code in (*CODES.items(), ("scl", "SCL")):
        file = "s2_l2a_10m.nc" if code in {"B02", "B03", "B04", "B08"} else "s2_l2a_20m.nc"
        numbers[band] = read_netcdf(folder / file, code)[dates]
    items = []
    for k, date in enumerate(dates):
        assets = {}
        for band, code in (*CODES.items(), ("scl", "SCL")):
            raw = numbers[band][k].astype("u1" if band == "scl" else "u2")
            size = 640 / raw.shape[0]
            path = f"s2/{days[date][:10]}_{code}.tif"
            write_cog(root / path, raw, Affine(size, 0, CORNER[0], 0, -size, CORNER[1]), UTM, 0)
            assets[code] = {"href": f"{base}/{path}", "type": "image/tiff", "roles": ["data"]}
        stamp = days[date].replace("-", "").replace(":", "")
        clear = float(np.isin(numbers["scl"][k], USABLE).mean())
        facts = {
            "eo:cloud_cover": round(100 * (1 - clear), 3), "s2:processing_baseline": "02.06",
            "s2:mgrs_tile": "31UES", "sat:orbit_state": "descending", "sat:relative_orbit": 51,
            "s2:datastrip_id": f"S2A_OPER_MSI_L2A_DS_EPAE_20180101T000000_S{stamp}_N02.06",
        }  # fmt: skip
        name = f"S2A_MSIL2A_{stamp}_R051_T31UES_20180101T000000"
        grid = Affine(10, 0, CORNER[0], 0, -10, CORNER[1])
        items.append(
            item(name, "sentinel-2-l2a", f"{days[date]}Z", UTM, grid, (64, 64), assets, facts)
        )
    return items, numbers


def as_collection_1(items: list[dict], root: Path, base: str) -> list[dict]:
    """The same scenes reprocessed: baseline 05.00, offset in the pixels, Earth Search's names."""
    made = []
    for old in items:
        assets = {}
        for band, code in (*CODES.items(), ("scl", "SCL")):
            source = root / old["assets"][code]["href"].removeprefix(f"{base}/")
            with rasterio.open(source) as file:
                raw, transform = file.read(1), file.transform
            if band != "scl":
                raw = np.where(raw == 0, 0, raw + 1000).astype("u2")
            path = f"c1/{source.name}"
            write_cog(root / path, raw, transform, UTM, 0)
            about = {"nodata": 0, "data_type": "uint16", "scale": 0.0001, "offset": -0.1}
            about = {"nodata": 0, "data_type": "uint8"} if band == "scl" else about
            assets[band] = {"href": f"{base}/{path}", "type": "image/tiff"}
            assets[band] |= {"raster:bands": [about]}
        new = json.loads(json.dumps(old)) | {"assets": assets, "stac_version": "1.1.0"}
        new |= {"collection": "sentinel-2-c1-l2a", "id": old["id"].replace("MSIL2A", "C1L2A")}
        new["properties"]["s2:processing_baseline"] = "05.00"
        new["properties"]["proj:code"] = f"EPSG:{new['properties'].pop('proj:epsg')}"
        made.append(new)
    return made


def flanders_s1(shared: Path, root: Path, base: str, dates: list[int]) -> tuple[list[dict], dict]:
    """(items of gridded linear power, decibels by name) of some dates."""
    folder = shared / "data/be-flanders-parcels"
    days = json.loads((folder / "meta.json").read_text())["files"]["s1_grd_asc_20m.nc"]["dates"]
    stored = {p: read_netcdf(folder / "s1_grd_asc_20m.nc", p.upper())[dates] for p in ("vv", "vh")}
    decibels = {p: np.where(v == 0, np.nan, v * 1e-4) for p, v in stored.items()}
    grid, items = Affine(20, 0, CORNER[0], 0, -20, CORNER[1]), []
    for k, date in enumerate(dates):
        assets = {}
        for p in ("vv", "vh"):
            power = np.nan_to_num(10 ** (decibels[p][k] / 10), nan=-32768).astype("f4")
            path = f"s1/{days[date][:10]}_{p}.tif"
            write_cog(root / path, power, grid, UTM, -32768)
            assets[p] = {"href": f"{base}/{path}", "type": "image/tiff"}
        facts = {"sat:orbit_state": "ascending", "sat:relative_orbit": 161}
        facts |= {"sar:product_type": "RTC"}
        name = f"S1A_IW_GRDH_1SDV_{days[date].replace('-', '').replace(':', '')}_rtc"
        moment = f"{days[date]}Z"
        items.append(item(name, "sentinel-1-rtc", moment, UTM, grid, (32, 32), assets, facts))
    return items, decibels


def north_dakota(shared: Path, root: Path, base: str) -> tuple[list[dict], list[np.ndarray]]:
    """(NAIP items, their pixels) of the two aerial images."""
    items, pixels = [], []
    for path in sorted((shared / "data/us-northdakota-naip5m").glob("naip_*.tif")):
        with rasterio.open(path) as file:
            data, transform = file.read(), file.transform
        write_cog(root / f"naip/{path.name}", data, transform, "EPSG:26914", None)
        bands = [{"name": n, "common_name": n.lower()} for n in ("Red", "Green", "Blue", "NIR")]
        asset = {"href": f"{base}/naip/{path.name}", "type": "image/tiff", "eo:bands": bands}
        day = path.stem.removeprefix("naip_")
        moment = f"{day[:4]}-{day[4:6]}-{day[6:]}T16:00:00Z"
        made = item(
            path.stem, "naip", moment, "EPSG:26914", transform, data.shape[1:], {"image": asset}, {}
        )
        items.append(made)
        pixels.append(data)
    return items, pixels


def catalogue(base: str, items: list[dict]) -> dict[str, bytes]:
    """Pages of a STAC API at `base`/stac that answers every search with all the items."""
    root = {
        "type": "Catalog", "id": "pages", "stac_version": "1.0.0", "description": "fixed pages",
        "conformsTo": [
            "https://api.stacspec.org/v1.0.0/core",
            "https://api.stacspec.org/v1.0.0/item-search",
            "https://api.stacspec.org/v1.0.0/collections",
        ],
        "links": [
            {"rel": "self", "href": f"{base}/stac"},
            {"rel": "root", "href": f"{base}/stac"},
            {"rel": "data", "href": f"{base}/stac/collections"},
            {"rel": "search", "href": f"{base}/stac/search", "type": "application/geo+json"},
        ],
    }  # fmt: skip
    names = list(dict.fromkeys(i["collection"] for i in items))
    pages = {
        "/stac": root,
        "/stac/collections": {"collections": [collection(n) for n in names], "links": []},
        "/stac/search": {"type": "FeatureCollection", "features": items, "links": []},
    }
    return {path: json.dumps(page).encode() for path, page in pages.items()}
