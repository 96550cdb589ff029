"""Sets of labelled images without a recipe, read from the folders kept beside the checkout."""

import io
import warnings
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import xarray as xr

from skysense.batch import Batch, SensorBatch
from skysense.encoders import FIRST_CELL
from skysense.evaluation.tasks import Images, Labels, Task, images_of_windows
from skysense.sensors import HR_RESOLUTION, SENSORS

COPERNICUS = "Contains modified Copernicus Sentinel data"

CORINE = {
    11: "urban fabric", 12: "industry and transport", 13: "mines and dumps", 14: "urban green",
    21: "arable land", 22: "permanent crops", 23: "pastures", 24: "mixed farmland",
    31: "forest", 32: "scrub and herbs", 33: "open ground", 41: "inland wetlands",
    42: "maritime wetlands", 51: "inland waters", 52: "marine waters",
}  # fmt: skip
"""CORINE land cover, level 2."""

NEAR = 0.5
"""Patches in one square of so many degrees stay on one side of a split."""

CHANGED = 0.5
"""A 10 m cell has changed if this share of its pixels has."""

UNFIT = [
    ("s1s2-bigearthnet1", "14 patches, of which 6 pairs: too few to split"),
    (
        "hr-change-pairs: DSIFN",
        "pixels of about 2 m, coarser than the 1.25 m encoders are meant for",
    ),
    ("s2-ireland-ts", "its change map holds one value (cloud)"),
]


def eurosat(path: Path) -> list[Task]:
    """EuroSAT: 80 Sentinel-2 patches of ten classes."""

    @lru_cache(maxsize=1)
    def load() -> Images:
        with xr.open_dataset(path, engine="h5netcdf") as data:
            data.load()
        names = [each.split()[1] for each in data["label"].attrs["classes"].split(", ")]
        index = data["label"].values.astype(int)
        lonlat = np.stack([data["lon"].values, data["lat"].values], axis=1)
        pixels = _reflectance(data["s2"].values, list(data["band"].values))
        square = np.floor(lonlat / NEAR).astype(int)
        _, group = np.unique(square, axis=0, return_inverse=True)
        windows = [_window({"s2": p}, place) for p, place in zip(pixels, lonlat, strict=True)]
        labels = {"scene": Labels(tuple(names), index)}
        return images_of_windows(windows, labels, group=group.ravel(), resolution=40)

    return [
        Task(
            "EuroSAT: scene",
            "s2-eurosat",
            "patches",
            "scene",
            load,
            ("s2",),
            block=0.0,
            licence="MIT; " + COPERNICUS,
            credit="EuroSAT (Helber et al. 2019)",
            note="80 patches, 8 of each class, L1C; patches of one half-degree square stay together.",
        )
    ]


def bigearthnet(path: Path) -> list[Task]:
    """BigEarthNet v2: the middle 640 m of 84 Sentinel-1 and -2 pairs with CORINE maps."""

    @lru_cache(maxsize=1)
    def load() -> Images:
        with xr.open_dataset(path, engine="h5netcdf") as data:
            middle = {"y": slice(28, 92), "x": slice(28, 92)}
            data.load()
        data = data.isel(middle)
        s2 = _reflectance(data["s2"].values, list(data["band"].values))
        s1 = data["s1"].values.astype(np.float32)  # n c h w, VV VH
        first = FIRST_CELL[40]
        codes = (data["clc"].values // 10)[:, first::4, first::4].astype(int)
        known = list(CORINE)
        index = np.full(codes.shape, -1)
        for i, code in enumerate(known):
            index[codes == code] = i
        windows = [_window({"s2": a, "s1": b}) for a, b in zip(s2, s1, strict=True)]
        labels = {"land_cover": Labels(tuple(CORINE.values()), index.ravel())}
        return images_of_windows(windows, labels, resolution=40)

    return [
        Task(
            "BigEarthNet2: land cover",
            "s1s2-bigearthnet2",
            "pixels",
            "land_cover",
            load,
            ("s2", "s1"),
            block=0.0,
            licence="CDLA-Permissive-1.0; " + COPERNICUS,
            credit="BigEarthNet v2 (Clasen et al. 2024); CORINE (c) EU Copernicus Land",
            note="CORINE level 2, whose smallest unit is 25 ha: labels are coarser than the pixels. "
            "Four Sentinel-2 bands. Whole patches train or test; their positions are unknown.",
        )
    ]


def aid(path: Path) -> list[Task]:
    """AID: 360 small scenes of thirty classes."""

    @lru_cache(maxsize=1)
    def load() -> Images:
        files = _Zip(path)
        names = sorted(files.index["label"].unique())
        index = np.array([names.index(label) for label in files.index["label"]])
        windows = [_window({"hr": _sized(files.image(n), 256)}) for n in files.index["file"]]
        return images_of_windows(windows, {"scene": Labels(tuple(names), index)})

    return [
        Task(
            "AID: scene",
            "rgb-aid-150px",
            "patches",
            "scene",
            load,
            ("hr",),
            block=0.0,
            licence="research use",
            credit="AID (Xia et al. 2017), imagery (c) Google",
            note="Pixels of 2 to 32 m, far coarser than the 1.25 m encoders are meant for: 150 "
            "pixels stretched to 256, as if they were 80 m of ground.",
        )
    ]


def change(path: Path) -> list[Task]:
    """LEVIR: what was built between two images, from the difference of their features."""
    cells = 12

    def square(array: np.ndarray) -> np.ndarray:
        """The part of 256 pixels of 0.5 m that is 12 cells of 10 m."""
        return array[..., : cells * 20, : cells * 20]

    @lru_cache(maxsize=1)
    def load() -> Images:
        files = _Zip(path)
        levir = files.index[files.index["dataset"] == "LEVIR"]
        side = round(cells * 10 / HR_RESOLUTION)
        pairs = sorted(levir["pair"].unique())
        windows: dict[str, list[Batch]] = {"A": [], "B": []}
        masks = []
        for pair in pairs:
            of = levir[levir["pair"] == pair].set_index("role")["file"]
            for role, several in windows.items():
                several.append(_window({"hr": _sized(square(files.image(of[role])), side)}))
            changed = square(files.image(of["label"])[0]) > 127
            masks.append(changed.reshape(cells, 20, cells, 20).mean((1, 3)) >= CHANGED)
        tile = ["_".join(pair.split("_")[:2]) for pair in pairs]
        group = np.unique(tile, return_inverse=True)[1]
        labels = {"change": Labels(("unchanged", "changed"), np.array(masks).astype(int).ravel())}
        return images_of_windows(windows["B"], labels, group=group, before=windows["A"])

    return [
        Task(
            "LEVIR: building change",
            "hr-change-pairs",
            "pixels",
            "change",
            load,
            ("hr",),
            block=0.0,
            licence="academic use only",
            credit="LEVIR-CD (Chen and Shi 2020), imagery (c) Google",
            note="Six pairs of five tiles; features are the absolute difference of the two dates'.",
        )
    ]


SETS: list[tuple[str, str, Callable[[Path], list[Task]]]] = [
    ("EuroSAT", "pretrain/s2-eurosat/s2.nc", eurosat),
    ("BigEarthNet2", "pretrain/s1s2-bigearthnet2/s1s2.nc", bigearthnet),
    ("AID", "evaluate/rgb-aid-150px/images.zip", aid),
    ("LEVIR", "evaluate/hr-change-pairs/pairs.zip", change),
]
"""Name, path under the shared folder, and what makes its tasks."""


class _Zip:
    """A stored archive of pictures with `index.csv`."""

    def __init__(self, path: Path) -> None:
        self.archive = zipfile.ZipFile(path)
        self.index: Any = pd.read_csv(io.BytesIO(self.archive.read("index.csv")))

    def image(self, name: str) -> np.ndarray:
        """A picture as (3, h, w) float32, 0..255."""
        from rasterio.errors import NotGeoreferencedWarning
        from rasterio.io import MemoryFile

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # pictures have no place
            with MemoryFile(self.archive.read(name)) as memory, memory.open() as file:
                array = file.read().astype(np.float32)
        return np.repeat(array, 3, axis=0) if len(array) == 1 else array[:3]


def _sized(pixels: np.ndarray, side: int) -> np.ndarray:
    """A picture (3, h, w) on a grid of so many pixels."""
    given = torch.from_numpy(np.ascontiguousarray(pixels))[None]
    made = F.interpolate(given, (side, side), mode="bilinear", align_corners=False, antialias=True)
    return made[0].numpy()


def _reflectance(values: np.ndarray, codes: list[str]) -> np.ndarray:
    """(n c h w) numbers × 10,000 as reflectance in the model's bands, NaN where a band is absent."""
    spec = SENSORS["s2"]
    out = np.full((len(values), len(spec.bands), *values.shape[2:]), np.nan, np.float32)
    for i, band in enumerate(spec.bands):
        if band.code in codes:
            out[:, i] = values[:, codes.index(band.code)] / 10_000
    return out


def _window(sensors: dict[str, np.ndarray], lonlat: Any = (np.nan, np.nan)) -> Batch:
    """One date of each sensor (c h w) as a batch of one; absent bands at the sensor's mean."""
    parts = {}
    for key in (k for k in SENSORS if k in sensors):
        pixels = torch.from_numpy(sensors[key])
        mean = torch.tensor(SENSORS[key].mean)[:, None, None]
        pixels = torch.where(pixels.isfinite(), pixels, mean)[None, None]
        valid = torch.ones(1, 1, *pixels.shape[-2:], dtype=torch.bool)
        parts[key] = SensorBatch(pixels, valid, torch.zeros(1, 1, dtype=torch.int64))
    return Batch(parts, torch.tensor([[float(v) for v in lonlat]], dtype=torch.float32))
