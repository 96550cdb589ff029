"""Read the sets of `shared/pretrain` into shards, one function per kind of set.

Used by `pretraining_shards.py`. What each set holds, its scales and its traps are in the README of that
folder; here it becomes contract units (reflectance, dB, 0..255 at 0.3125 m).
"""

import csv
import io
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning

from skysense.batch import to_batch
from skysense.pretrain.shards import ShardSensor
from skysense.sensors import CELL, SENSORS
from skysense.stack import make_stack, sensor_group
from skysense.windows import Lattice, Window

COPERNICUS = "Contains modified Copernicus Sentinel data"
TERMS: dict[str, tuple[str, str, str]] = {
    "s2-l2a-64px": (
        f"{COPERNICUS}; the repository has no licence file",
        "European Union, Copernicus Sentinel-2",
        "github.com/rbngz/submission_dataset @ 2955356a, testset/",
    ),
    "s2-eurosat": (
        f"MIT (EuroSAT); {COPERNICUS}",
        "EuroSAT (Helber et al. 2019)",
        "github.com/wherobots/GeoTorchAI @ d2a6c399, data/eurosat/",
    ),
    "s1s2-bigearthnet2": (
        f"CDLA-Permissive-1.0; {COPERNICUS}",
        "BigEarthNet v2, reBEN (Clasen et al. 2024)",
        "github.com/kshitijrajsharma/bigearthnet-dl-distributed @ 332c6da9, results/peta_local/test/",
    ),
    "s1s2-bigearthnet1": (
        f"CDLA-Permissive-1.0; {COPERNICUS}",
        "BigEarthNet-MM (Sumbul et al. 2019, 2021)",
        "github.com/kai-tub/bigearthnet_gdf_builder @ be474881, kai-tub/bigearthnet_common @ 2010779b, "
        "Eyobed-Abby/fusion-lora-skysense @ e02aa55b",
    ),
    "s2-ireland-ts": (
        f"{COPERNICUS}; the repository has no licence file",
        "RaVAEn (Ruzicka et al. 2022)",
        "github.com/uvrey/fl-eurosat-ravaen @ d104ba4b",
    ),
    "s1s2-honduras-ts": (
        f"Apache-2.0; {COPERNICUS}",
        "NASA Harvest, crop-mask",
        "github.com/nasaharvest/crop-mask @ 2466fbdb, data/",
    ),
    "s1s2-sen12mscr": (
        f"CC BY 4.0; {COPERNICUS}",
        "SEN12MS-CR (Ebel et al. 2020)",
        "github.com/zhangcy23/Mamba-SCR @ 730566bf, img/",
    ),
    "s1s2-openeo-tests": (
        f"Apache-2.0 and MIT; {COPERNICUS}",
        "openEO GFMap; WorldCereal (ESA, VITO)",
        "github.com/Open-EO/openeo-gfmap @ d6c21cc7, WorldCereal/worldcereal-classification @ 81f5ffa4",
    ),
    "hr-openaerialmap": (
        "CC BY 4.0",
        "OpenAerialMap contributors, by way of HOT fAIr",
        "github.com/hotosm/fAIr-utilities @ fa16896e and 61f15156, ramp-data/",
    ),
    "hr-california-naip": (
        "public domain",
        "USDA National Agriculture Imagery Program; tiles of Ventura et al.",
        "github.com/jonathanventura/urban-tree-detection-data @ 78e81bdb, images/",
    ),
    "hr-neon-forest": (
        "open with attribution",
        "National Ecological Observatory Network (NEON), by way of DeepForest",
        "github.com/weecology/DeepForest @ a620600d, 7324eb85, b6eb2a71, data/",
    ),
}
"""By folder of `shared/pretrain`: licence, attribution, origin (as its README says)."""

S2_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
S2_SCALE = 1e-4

Add = Callable[..., None]
"""`add(name, folder, sensors, **facts)` writes one shard of a folder of `shared/pretrain`."""


def s2(pixels: np.ndarray, bands: Sequence[str] = S2_BANDS, **more: Any) -> ShardSensor:
    """Sentinel-2 (n, t, c, h, w) in reflectance × 10,000; `usable` and `doy` if they are known."""
    usable = more.pop("usable", np.ones((*pixels.shape[:2], *pixels.shape[3:]), bool))
    return ShardSensor(
        pixels, usable & (pixels != 65535).all(axis=2), bands, scale=S2_SCALE, **more
    )


def s1(pixels: np.ndarray, **more: Any) -> ShardSensor:
    """Sentinel-1 (n, t, 2, h, w) in dB, VV before VH."""
    return ShardSensor(
        pixels.astype(np.float32), np.isfinite(pixels).all(axis=2), ("VV", "VH"), **more
    )


def days(dates: Iterable[Any]) -> np.ndarray:
    """Day of year of some dates."""
    return pd.DatetimeIndex(pd.to_datetime(list(dates))).day_of_year.to_numpy()


def sentinel_patches(root: Path, add: Add) -> None:
    """The sets of single patches, dates mostly unknown."""
    with xr.open_dataset(root / "s2-l2a-64px/s2.nc") as ds:
        names = [str(i) for i in ds.source_index.values]
        add(
            "s2-l2a-64px",
            "s2-l2a-64px",
            {"s2": s2(ds.s2.values[:, None])},
            level="L2A",
            names=names,
        )
    with xr.open_dataset(root / "s2-eurosat/s2.nc") as ds:
        lonlat = np.stack([ds.lon.values, ds.lat.values], 1)
        names = ds.patch.values.tolist()
        series = {"s2": s2(ds.s2.values[:, None])}
        add("s2-eurosat", "s2-eurosat", series, level="L1C", names=names, lonlat=lonlat)
    with xr.open_dataset(root / "s1s2-bigearthnet2/s1s2.nc") as ds:
        series = {
            "s2": s2(ds.s2.values[:, None], ds.band.values.tolist()),
            "s1": s1(ds.s1.values[:, None]),
        }
        note = "Sentinel-2 has only B02, B03, B04 and B08; the other six are at the mean."
        add("s1s2-bigearthnet2", "s1s2-bigearthnet2", series, level="L2A", notes=[note])
    with xr.open_dataset(root / "s1s2-bigearthnet1/s1s2.nc") as ds:
        _bigearthnet1(ds.load(), add)
    with xr.open_dataset(root / "s1s2-bigearthnet1/s2_six_bands.nc") as ds:
        lonlat = np.stack([ds.lon.values, ds.lat.values], 1)
        series = {"s2": s2(*both_grids(ds))}
        note = "Sentinel-2 lacks B05, B06, B07 and B8A."
        add("s2-bigearthnet1-six-bands", "s1s2-bigearthnet1", series, level="L2A",
               names=ds.patch.values.tolist(), lonlat=lonlat, notes=[note])  # fmt: skip
    with xr.open_dataset(root / "s1s2-sen12mscr/rois1868_summer_19_p30.nc") as ds:
        pixels = ds.s2.values[None, None]
        # The product has no mask. A blue reflectance above 0.2 is cloud here: the ground is dark.
        usable = pixels[:, :, 0] < 2000
        series = {"s2": s2(pixels, usable=usable), "s1": s1(ds.s1.values[None, None])}
        note = "Clouds are masked where B02 is above 0.2."
        add("s1s2-sen12mscr", "s1s2-sen12mscr", series, level="L1C", notes=[note],
               lonlat=np.array([[4.95957, 11.6406]]))  # fmt: skip


def both_grids(ds: xr.Dataset) -> tuple[np.ndarray, list[str]]:
    """(n, 1, c, h, w) and bands of a set with bands of 10 m and of 20 m, those copied to 10 m."""
    fine, coarse = ds.s2_10m.values, ds.s2_20m.values.repeat(2, axis=2).repeat(2, axis=3)
    bands = [*ds.band10.values.tolist(), *ds.band20.values.tolist()]
    return np.concatenate([fine, coarse], 1)[:, None], bands


def _bigearthnet1(ds: xr.Dataset, add: Add) -> None:
    pixels, bands = both_grids(ds)
    lonlat = np.stack([ds.lon.values, ds.lat.values], 1)
    doy = days(ds.date.values)[:, None]
    index = {name: i for i, name in enumerate(ds.s1_name.values.tolist())}
    match = np.array([index.get(name, -1) for name in ds.s1_patch.values.tolist()])
    names = ds.patch.values
    for name, chosen in (("pairs", match >= 0), ("s2", match < 0)):
        series = {"s2": s2(pixels[chosen], bands, doy=doy[chosen])}
        if name == "pairs":
            radar = ds.s1.values[match[chosen]][:, None]
            flown = days(n.split("_")[4][:8] for n in ds.s1_patch.values[chosen])
            series["s1"] = s1(radar, doy=flown[:, None])
        add(f"bigearthnet1-{name}", "s1s2-bigearthnet1", series, level="L2A",
               names=names[chosen].tolist(), lonlat=lonlat[chosen])  # fmt: skip
    alone = [i for i in range(len(index)) if i not in match]
    flown = days(str(n).split("_")[4][:8] for n in ds.s1_name.values[alone])
    add("bigearthnet1-s1", "s1s2-bigearthnet1",
           {"s1": s1(ds.s1.values[alone][:, None], doy=flown[:, None])},
           names=ds.s1_name.values[alone].tolist(),
           lonlat=np.stack([ds.s1_lon.values, ds.s1_lat.values], 1)[alone])  # fmt: skip


def sentinel_series(root: Path, add: Add) -> None:
    """The real series, few and small."""
    for name, lonlat in (("lahinch", (-9.33337, 52.94739)), ("waterville", (-10.17413, 51.85974))):
        with xr.open_dataset(root / f"s2-ireland-ts/{name}.nc") as ds:
            clear = (ds.cloud_probability.values < 50)[None]
            series = s2(ds.s2.values[None], usable=clear, doy=days(ds.time.values)[None])
            note = "Pixels of 50 % cloud probability or more are masked."
            add(f"s2-ireland-{name}", "s2-ireland-ts", {"s2": series}, level="L1C",
                   lonlat=np.array([lonlat]), notes=[note])  # fmt: skip
    with xr.open_dataset(root / "s1s2-honduras-ts/s1s2.nc") as ds:
        first = pd.Timestamp("2017-01-01") + pd.to_timedelta(30 * ds.time.values, "D")
        doy = days(first)[None]
        series = {"s2": s2(ds.s2.values[None], doy=doy), "s1": s1(ds.s1.values[None], doy=doy)}
        note = "Composites of 30 days; the first day stands for each."
        add("s1s2-honduras", "s1s2-honduras-ts", series, level="L1C", notes=[note],
               lonlat=np.array([(-86.25, 14.9524)]))  # fmt: skip
    folder = root / "s1s2-openeo-tests"
    with xr.open_dataset(folder / "mol_s1_grd.nc") as ds:
        radar = np.stack([ds[f"S1-SIGMA0-{p}"].values for p in ("VV", "VH")], 1)
        note = "Its Sentinel-2 images have three bands the encoder reads, too few: left out."
        add("s1-openeo-mol", "s1s2-openeo-tests",
               {"s1": s1(decibels(radar)[None], doy=days(ds.t.values)[None])},
               lonlat=np.array([(5.056, 51.2187)]), notes=[note])  # fmt: skip
    with xr.open_dataset(folder / "worldcereal_inputs_15px.nc") as ds:
        bands = [band for band in S2_BANDS if band in ds]
        optical = np.stack([ds[band].values for band in bands], 1)[None]
        radar = np.stack([ds[p].values for p in ("VV", "VH")], 1)
        doy = days(ds.t.values)[None]
        series = {"s2": s2(optical, bands, doy=doy), "s1": s1(decibels(radar)[None], doy=doy)}
        note = "Monthly composites; the first day stands for each. There is no B8A."
        add("s1s2-openeo-picardy", "s1s2-openeo-tests", series, level="L2A", notes=[note],
               lonlat=np.array([(1.8786, 50.0033)]))  # fmt: skip


def decibels(stored: np.ndarray) -> np.ndarray:
    """Sentinel-1 as WorldCereal stores it, dB = 20 log10(DN) - 83; 0 and 65535 are no data."""
    known = (stored > 0) & (stored < 65535)
    return np.where(known, 20 * np.log10(np.where(known, stored, 1).astype(float)) - 83, np.nan)


def on_grid(image: np.ndarray, seen: np.ndarray, gsd: float) -> tuple[np.ndarray, np.ndarray]:
    """RGB (t, 3, h, w) with pixels of `gsd` metres at 0.3125 m, as the package reads any stack.

    Returns:
        uint8 pixels and valid over the nearest whole number of 10 m cells.
    """
    left, top, crs = 500_000.0, 4_000_000.0, "EPSG:32631"
    t, _, h, w = image.shape
    rows, columns = (max(1, round(n * gsd / CELL)) for n in (h, w))
    group = sensor_group(
        "hr", image.astype(np.float32), seen, bands=SENSORS["hr"].names, time=[None] * t,
        geobox=GeoBox((h, w), Affine(gsd, 0, left, 0, -gsd, top), crs), source="", licence="",
    )  # fmt: skip
    lattice = Lattice(crs, left, top, w * gsd, h * gsd)
    stack = make_stack({"hr": group}, lattice=lattice, region=None, source="")
    bounds = (left, top - rows * CELL, left + columns * CELL, top)
    read = to_batch(stack, [Window(bounds, bounds)]).sensors["hr"]
    return read.pixels[0].round().numpy().astype(np.uint8), read.valid[0].numpy()


def hr(pixels: np.ndarray, valid: np.ndarray) -> ShardSensor:
    """High resolution (n, t, 3, h, w)."""
    return ShardSensor(pixels, valid, ("R", "G", "B"))


def tiles(path: Path) -> tuple[zipfile.ZipFile, list[dict[str, str]]]:
    """An archive of tiles and the rows of its index."""
    archive = zipfile.ZipFile(path)
    return archive, list(csv.DictReader(io.StringIO(archive.read("index.csv").decode())))


def read_image(archive: zipfile.ZipFile, name: str) -> tuple[np.ndarray, np.ndarray]:
    """RGB (3, h, w) and where it has data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.MemoryFile(archive.read(name)) as file, file.open() as image:
            pixels = image.read()
    seen = pixels[3] > 0 if len(pixels) == 4 and name.endswith("png") else None
    return pixels[:3], np.ones(pixels.shape[1:], bool) if seen is None else seen


def open_aerial_map(root: Path, add: Add) -> None:
    """Mosaics of neighbouring tiles of zoom 20, which cover all that the other zooms show."""
    archive, rows = tiles(root / "hr-openaerialmap/tiles.zip")
    by_place: dict[str, dict[tuple[int, int], dict[str, str]]] = defaultdict(dict)
    for row in rows:
        if row["z"] == "20":
            by_place[row["place"]][int(row["tile_x"]), int(row["tile_y"])] = row
    for place, found in by_place.items():
        for number, mosaic in enumerate(neighbours(set(found))):
            (x0, y0), (x1, y1) = np.min(list(mosaic), axis=0), np.max(list(mosaic), axis=0)
            shape = ((y1 - y0 + 1) * 256, (x1 - x0 + 1) * 256)
            image, seen = np.zeros((3, *shape), np.uint8), np.zeros(shape, bool)
            for x, y in mosaic:
                there = np.s_[
                    (y - y0) * 256 : (y - y0 + 1) * 256, (x - x0) * 256 : (x - x0 + 1) * 256
                ]
                image[:, *there], seen[there] = read_image(archive, found[x, y]["file"])
            some = [found[each] for each in mosaic]
            lonlat = [np.mean([float(r[k]) for r in some for k in two])
                      for two in (("west", "east"), ("south", "north"))]  # fmt: skip
            pixels, valid = on_grid(image[None], seen[None], float(some[0]["gsd_m"]))
            add(f"hr-openaerialmap-{place}-{number}", "hr-openaerialmap",
                   {"hr": hr(pixels[None], valid[None])}, lonlat=np.array([lonlat]))  # fmt: skip


def neighbours(tiles: set[tuple[int, int]]) -> list[set[tuple[int, int]]]:
    """Tiles in groups that hang together."""
    groups, left = [], set(tiles)
    while left:
        group, new = set(), {min(left)}
        while new:
            group |= new
            left -= new
            around = {(x + i, y + j) for x, y in new for i, j in ((1, 0), (-1, 0), (0, 1), (0, -1))}
            new = around & left
        groups.append(group)
    return groups


def airborne_tiles(root: Path, add: Add) -> None:
    """NAIP, the same tile in several years, and NEON."""
    archive, rows = tiles(root / "hr-california-naip/tiles.zip")
    same: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        same[f"{row['place']}-{row['tile']}"].append(row)
    most = max(map(len, same.values()))
    pixels, valid, lonlat = [], [], []
    for years in same.values():
        images = [
            on_grid(*(a[None] for a in read_image(archive, row["file"])), 0.6) for row in years
        ]
        images += [(np.zeros_like(images[0][0]), np.zeros_like(images[0][1]))] * (most - len(years))
        pixels.append(np.concatenate([image for image, _ in images]))
        valid.append(np.concatenate([seen for _, seen in images]))
        lonlat.append((float(years[0]["lon"]), float(years[0]["lat"])))
    add("hr-california-naip", "hr-california-naip", {"hr": hr(np.stack(pixels), np.stack(valid))},
           names=list(same), lonlat=np.array(lonlat))  # fmt: skip
    archive, rows = tiles(root / "hr-neon-forest/tiles.zip")
    both = []
    for row in rows:
        image, _ = read_image(archive, row["file"])
        short = [(0, 400 - n) for n in image.shape[1:]]  # one tile is cut by the edge of its flight
        image = np.pad(image, [(0, 0), *short], constant_values=255)
        both.append(on_grid(image[None], ~(image == 255).all(axis=0)[None], 0.2))
    note = "Tiles of 40 m are smaller than a view and are shown twice as large, 0.156 m per pixel."
    add("hr-neon-forest", "hr-neon-forest",
           {"hr": hr(np.stack([p for p, _ in both]), np.stack([v for _, v in both]))},
           names=[row["file"][:-4] for row in rows], notes=[note],
           lonlat=np.array([(float(r["lon"]), float(r["lat"])) for r in rows]))  # fmt: skip
