"""Collect what `skysense-tiny` learns from: Zarr shards, recipes, and a list of sources.

    python scripts/pretraining_shards.py out/pretraining --shared ../shared --synthetic 16

Reads the imagery of `shared/pretrain` and the recipes of `tests/recipes` whose terms allow an
Apache-2.0 weight file, adds synthetic scenes, and writes a folder that
`skysense.pretrain.prepare.prepare` takes: `*.zarr` (form: `skysense.pretrain.shards`), `*.toml`, and
`sources.json` with licence and attribution of everything, for the model card. The folder is a
product of a build and is never committed.
"""

import argparse
import json
import os
import re
import sys
import time
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from pretraining_imagery import (
    S2_SCALE,
    TERMS,
    airborne_tiles,
    open_aerial_map,
    sentinel_patches,
    sentinel_series,
)

from skysense.pretrain.shards import ShardSensor, write_shard
from skysense.pretrain.words import CLASSES
from skysense.sensors import CELL, SENSORS
from skysense.sources import synthetic

RECIPES = Path(__file__).resolve().parents[1] / "tests" / "recipes"
LEFT_OUT = {
    "br-coast": "CC BY-SA 4.0 (TerraMesh)",
    "br-coast-l1c": "CC BY-SA 4.0 (TerraMesh)",
    "tz-simiyu": "CC BY-SA 4.0 (TerraMesh)",
    "dk-jutland": "CC BY-SA 4.0 (TerraMesh)",
    "us-vegas-spacenet": "CC BY-SA 4.0 (SpaceNet)",
    "si-turjak-l1c": "kept apart: the series that evaluation uses as a place never seen",
    "us-northdakota-naip5m": "5 m pixels are too coarse for the high-resolution encoder",
}
FIRST_SEED = 10_000
"""Seeds of synthetic scenes begin here, far from those of tests, notebooks and evaluation."""


class Collection:
    """Writes shards and remembers what they are."""

    def __init__(self, out: Path) -> None:
        self.out, self.sources = out, []

    def add(self, name: str, folder: str, sensors: dict[str, ShardSensor], **said: Any) -> None:
        """Write one shard from a folder of `shared/pretrain`."""
        licence, credit, source = TERMS[folder]
        self.write(name, sensors, licence=licence, credit=credit, source=source, **said)

    def write(self, name: str, sensors: dict[str, ShardSensor], **said: Any) -> None:
        """Write one shard and note it."""
        write_shard(self.out / f"{name}.zarr", sensors, **said)
        self.sources.append(
            {
                "file": f"{name}.zarr",
                "sensors": {k: list(each.pixels.shape) for k, each in sensors.items()},
                "places": len(next(iter(sensors.values())).pixels),
                "level": said.get("level", ""),
                "synthetic": said.get("synthetic", False),
                **{key: said[key] for key in ("licence", "credit", "source")},
                "notes": list(said.get("notes", ())),
            }
        )


def synthetic_scenes(count: int, to: Collection) -> None:
    """Series without high resolution, and small places with all three sensors, `count` of each."""
    kinds = (("series", (64, 96, 128), ("s2", "s1")), ("triples", (16, 24, 32), ("hr", "s2", "s1")))
    for kind, sizes, sensors in kinds:
        made: dict[int, list[dict[str, ShardSensor]]] = defaultdict(list)
        names: dict[int, list[str]] = defaultdict(list)
        truths: dict[int, list[np.ndarray]] = defaultdict(list)
        for i in range(count):
            size, style = sizes[i % 3], list(synthetic.STYLES)[i // 3 % 2]
            seed, year = FIRST_SEED + i + 1000 * (kind == "triples"), 2019 + i % 5
            period = (f"{year}-01-01", f"{year}-12-31")
            tree, truth = synthetic.scene(seed, size * CELL, sensors, style=style, time=period)
            made[size].append({key: _thinned(tree[key].to_dataset(), key) for key in sensors})
            index = [CLASSES.index(name) for name in truth.attrs["categories"]]
            truths[size].append(np.array(index, np.int8)[truth.values.astype(int)])
            names[size].append(f"{style}-{seed}-{year}")
        for size, scenes in made.items():
            series = {key: _joined([scene[key] for scene in scenes], key) for key in sensors}
            to.write(f"synthetic-{kind}-{size}", series, licence=synthetic.LICENCE,
                     credit="SkySense Explorer", source=synthetic.SOURCE, synthetic=True,
                     level="L2A", names=names[size], labels=np.stack(truths[size]))  # fmt: skip


def _thinned(group: xr.Dataset, key: str) -> ShardSensor:
    """At most 32 (s2), 16 (s1) or 1 (hr) usable dates of a scene, spread over the year."""
    most = {"s2": 32, "s1": 16, "hr": 1}[key]
    usable = np.flatnonzero(group["valid"].mean(("y", "x")).values >= 0.3)
    chosen = usable[np.unique(np.linspace(0, len(usable) - 1, most).round().astype(int))]
    part = group.isel(time=chosen)
    data = part["data"].values
    stored = {"s2": lambda: (data / S2_SCALE).round().clip(0, 65534).astype(np.uint16),
              "s1": lambda: data.astype(np.float16),
              "hr": lambda: data.round().clip(0, 255).astype(np.uint8)}[key]()  # fmt: skip
    scale = S2_SCALE if key == "s2" else 1.0
    doy = part["doy"].values.astype(int)
    return ShardSensor(stored, part["valid"].values, SENSORS[key].names, doy, scale)


def _joined(scenes: Sequence[ShardSensor], key: str) -> ShardSensor:
    """Several scenes in one array, those with fewer dates filled up with invalid ones."""
    most = max(len(scene.valid) for scene in scenes)

    def filled(array: np.ndarray) -> np.ndarray:
        return np.pad(array, [(0, most - len(array))] + [(0, 0)] * (array.ndim - 1))

    pixels, valid, doy = (np.stack([filled(getattr(s, name)) for s in scenes])
                          for name in ("pixels", "valid", "doy"))  # fmt: skip
    return ShardSensor(pixels, valid, SENSORS[key].names, doy, scenes[0].scale)


def recipes(shared: Path, to: Collection) -> list[dict[str, str]]:
    """Copy the recipes whose terms allow it, with the folder of their files spelled out."""
    for path in sorted(RECIPES.glob("*.toml")):
        folder = (shared / "data" / path.stem).resolve()
        if path.stem in LEFT_OUT or not folder.is_dir():
            continue
        text = path.read_text(encoding="utf-8")
        root = json.dumps(os.path.relpath(folder, to.out.resolve()))
        text = re.sub(r"^root = .*$", lambda _, root=root: f"root = {root}", text, flags=re.M)
        (to.out / path.name).write_text(text, encoding="utf-8")
        said = tomllib.loads(text)
        to.sources.append(
            {
                "file": path.name,
                "licence": said["licence"],
                "credit": said.get("credit", ""),
                "source": said["title"],
                "synthetic": False,
                "notes": [],
            }
        )
    return [{"name": name, "reason": reason} for name, reason in LEFT_OUT.items()]


def main() -> int:
    """Write the folder; say how long each part took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="a new folder, outside version control")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="imagery")
    parser.add_argument("--synthetic", type=int, default=12, help="scenes of each of two kinds")
    asked = parser.parse_args()
    if asked.out.exists():
        print(f"{asked.out} is already there. Choose another name or remove it first.")
        return 1
    root = asked.shared / "pretrain"
    if not root.is_dir():
        print(f"There is no folder {root}. Say with --shared where the imagery is.")
        return 1
    asked.out.mkdir(parents=True)
    to, left_out = Collection(asked.out), []
    begun = time.perf_counter()
    for part in (sentinel_patches, sentinel_series, open_aerial_map, airborne_tiles):
        part(root, to.add)
        print(f"{part.__name__}: {time.perf_counter() - begun:.0f} s")
    left_out = recipes(asked.shared, to)
    synthetic_scenes(asked.synthetic, to)
    print(f"synthetic_scenes: {time.perf_counter() - begun:.0f} s")
    content = {"sources": to.sources, "left_out": left_out}
    (asked.out / "sources.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    print(f"{len(to.sources)} sources in {asked.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
