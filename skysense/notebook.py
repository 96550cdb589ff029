"""A session as Python: the same lines to copy, or a notebook that plays it again and compares.

What is written uses the public names only. Every text of the session enters it as a quoted literal,
so that a name can be anything and is never run.
"""

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import xarray as xr

from skysense.checks import shown
from skysense.dates import Dates
from skysense.disk import path_of, written
from skysense.errors import SessionError
from skysense.export import plain
from skysense.hashes import feature_hash
from skysense.region import Region
from skysense.session import Session, SessionPlace, mark_json
from skysense.session_file import beside, is_path

ENDING = ".ipynb"

SEEDED = re.compile(r"random\(seed=(\d+)\)")

MAGIC = "%matplotlib inline"
"""Makes the notebook show the picture; no Python, so it is not in the script."""

CHECK = '''\
def same(name, recorded):
    """Compare the features of a place with those of the session."""
    made = sky.feature_hash(features[name])
    assert made == recorded, (
        f"The features of {name!r} are not those of the session: {made} instead of {recorded}. "
        "The images, the weights, the package's version or the machine is another one."
    )
'''


def as_code(session: Session) -> str:
    """The lines of Python that make again what a session shows.

    Returns:
        A script: loads and encodes every place that had features (all where none had) as it was,
        compares the features with the recorded
        hashes, and makes colours, clusters, prototypes, classes and one picture.

    Raises:
        SessionError: If it is no session, or has no place.
    """
    return "\n\n".join(code.rstrip() for _, code in _cells(session, None)) + "\n"


def save_notebook(session: Session, path: str | Path, overwrite: bool = False) -> Path:
    """Write a notebook that replays a session and fails if the features come out differently.

    Args:
        session: With the choices and hashes to reproduce.
        path: A file ending in `.ipynb`. Files of its own folder are named relative to it.
        overwrite: Replace what is there.

    Returns:
        The path.

    Raises:
        SessionError: As `as_code`; or if the ending is another, or the path is taken or cannot be
            written.
    """
    path = path_of(path, SessionError)
    if path.suffix.lower() != ENDING:
        raise SessionError(f"{path.name!r} does not end in {ENDING}, as notebooks do.")
    if path.exists() and not (overwrite and path.is_file()):
        raise SessionError(f"{path} is already there. Choose another name, or pass overwrite=True.")
    cells = []
    for words, lines in _cells(session, path.parent):
        code = lines if cells else f"{MAGIC}\n\n{lines}"
        cells += [_cell("markdown", words, len(cells)), _cell("code", code, len(cells) + 1)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    with written(path, SessionError) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return path


def _cell(kind: str, text: str, number: int) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
    if kind == "code":
        cell |= {"execution_count": None, "outputs": []}
    return {**cell, "source": text.rstrip("\n").splitlines(keepends=True)}


def _cells(session: Session, home: Path | None) -> list[tuple[str, str]]:
    """(words, code) of each step."""
    if not isinstance(session, Session):
        raise SessionError(f"{shown(session)} is not a session; make one with Session(places=...).")
    if not session.places:
        raise SessionError("The session has no place, so there is nothing to do again. Add one.")
    cells = [
        (
            "# A session, played again\n\nThe first lines set what the last bit depends on.",
            _beginning(session, home),
        ),
        ("## Places", _places(session, home)),
        ("## Colours, clusters and prototypes", _analysis(session)),
    ]
    labelled = _labels(session)
    if labelled:
        cells.append(("## Classes from labels", labelled))
    cells.append(("## The picture", _picture(session, bool(labelled))))
    return cells


def _beginning(session: Session, home: Path | None) -> str:
    choices = session.choices
    options = [f"device={choices.device!r}", f"precision={choices.dtype!r}"]
    if seeded := SEEDED.fullmatch(choices.weights):
        options.append(f"seed={int(seeded[1])}")
    if choices.merge:
        options.append(f"merge={choices.merge!r}")
    if choices.checkpoint:
        options.append(f"path={beside(choices.checkpoint, home)!r}")
    lines = [
        "import torch",
        "",
        "import skysense as sky",
        "",
        f"torch.set_num_threads({choices.threads})",
        f"encoder = sky.load_encoder({choices.encoder!r}, {', '.join(options)})",
    ]
    if choices.weights:
        words = f"The session was made with other weights, {choices.weights}."
        lines.append(f"assert encoder.weights == {choices.weights!r}, {words!r}")
    said = [
        f"{each.name}={getattr(choices.dates, each.name)!r}"
        for each in dataclasses.fields(Dates)
        if getattr(choices.dates, each.name) != each.default
    ]
    lines += [f"dates = sky.Dates({', '.join(said)})", "stacks, features = {}, {}"]
    return "\n".join([*lines, "", "", CHECK])


def _places(session: Session, home: Path | None) -> str:
    choices = session.choices
    blocks = []
    for place in session.encoded:
        name = repr(place.name)
        lines = [f"stacks[{name}] = {_loading(place, home)}"]
        lines += [
            f"features[{name}] = sky.embed(",
            f"    stacks[{name}],",
            "    encoder,",
            f"    resolution={choices.resolution},",
            "    dates=dates,",
            f"    batch_size={choices.batch_size},",
            f"    memory_gb={choices.memory_gb!r},",
            ")",
        ]
        if place.features:
            lines.append(f"same({name}, {place.features!r})")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _loading(place: SessionPlace, home: Path | None) -> str:
    source = beside(place.source, home)
    if is_path(place.source) and place.source.rstrip("/").endswith(".zarr"):
        return f"sky.load_stack({source!r}{_sensors(place)})"
    where = "" if place.region is None else f"{_region(place.region)}, "
    scene = "" if place.scene is None else f", scene={place.scene!r}"
    return f"sky.load_stack({where}source={source!r}{_sensors(place)}{scene})"


def _sensors(place: SessionPlace) -> str:
    return "" if place.sensors is None else f", sensors={place.sensors!r}"


def _region(region: Region) -> str:
    """A region as code; its polygon masks nothing, so the bounds are enough."""
    return f"sky.Region({region.bounds!r}, {region.time!r}, {region.name!r})"


def _analysis(session: Session) -> str:
    view = session.view
    names = [place.name for place in session.encoded]
    basis = view.basis_of if view.basis_of in names else names[0]
    lines = [
        f"basis = sky.fit_pca(features[{basis!r}])",
        "colours = {name: sky.pca(each, basis=basis) for name, each in features.items()}",
        f"groups = {{name: sky.cluster(each, n={view.groups}) for name, each in features.items()}}",
        *_bank(session),
        "kinds = {name: sky.assign(each, bank) for name, each in features.items()}",
    ]
    if any(session.prototypes):
        count = len(session.prototypes)
        names = [n or f"prototype {i}" for i, n in enumerate(session.prototypes, 1)]
        lines += [
            f"for field in kinds.values():  # the names of the {count} prototypes",
            f'    field.attrs["categories"] = {names!r}',
        ]
    return "\n".join(lines)


def _bank(session: Session) -> list[str]:
    """How the prototypes are made: fitted again where the session holds all they were fitted on."""
    bank = session.bank
    if bank is None:
        return [f"bank = sky.fit_prototypes(features, n={session.view.prototypes})"]
    again = _fitting(session, bank)
    if again:
        words = (
            "The prototypes are not bit for bit those of the session: NumPy ran with another number of "
            "threads, or they were fitted on other features."
        )
        check = f"if sky.feature_hash(bank) != {feature_hash(bank)!r}:\n    print({words!r})"
        return [again, check]
    rows = (json.dumps([float(str(v)) for v in row]) for row in np.asarray(bank.values, "f4"))
    lines = ["import numpy as np", "import xarray as xr", "", "bank = xr.DataArray("]
    lines += ["    np.array(", "        [", *(f"            {row}," for row in rows), "        ],"]
    lines += ['        "float32",', "    ),", '    dims=("prototype", "feature"),']
    lines += [f"    attrs={plain(bank.attrs)!r},", ")"]
    if "centre" in bank.coords:
        centre = [float(str(v)) for v in np.asarray(bank["centre"].values, "f4")]
        values = f'np.array({json.dumps(centre)}, "float32")'
        lines.append(f'bank = bank.assign_coords(centre=("feature", {values}))')
    return lines


def _fitting(session: Session, bank: xr.DataArray) -> str:
    """The call that fitted a bank; empty if it cannot be made again from this session."""
    needed = ("fitted_on", "epsilon", "iterations", "momentum", "seed")
    if any(name not in bank.attrs for name in needed):
        return ""
    names = [str(name) for name in bank.attrs["fitted_on"]]
    known = {place.name: place for place in session.encoded}
    if names == ["place"] and "place" not in known and len(known) == 1:
        given = f"features[{next(iter(known))!r}]"
    elif all(name in known and known[name].features for name in names):
        given = "{" + ", ".join(f"{name!r}: features[{name!r}]" for name in names) + "}"
    else:
        return ""
    options = ", ".join(
        f"{name}={bank.attrs[name]!r}" for name in ("epsilon", "iterations", "momentum", "seed")
    )
    return f"bank = sky.fit_prototypes({given}, n={bank.sizes['prototype']}, {options})"


def _labels(session: Session) -> str:
    """Segmentation of every place in which two classes or more have marks."""
    lines = []
    for place in session.encoded:
        chosen = labels_of(session, place)
        if len(chosen) < 2:
            continue
        lines += [f"labels[{place.name!r}] = {{"]
        lines += [
            f"    {name!r}: [{', '.join(repr(_plain(mark)) for mark in marks)}],"
            for name, marks in chosen.items()
        ]
        lines += ["}"]
    if not lines:
        return ""
    ending = [
        "classes = {",
        "    name: sky.classes(sky.segment(features[name], marks)) for name, marks in labels.items()",
        "}",
        f"palette = { ({each.name: each.colour for each in session.labels})!r}",
        "for field in classes.values():  # the colours of the session",
        '    field.attrs["colours"] = [palette[name] for name in field.attrs["categories"]]',
    ]
    return "\n".join(["labels = {}", *lines, *ending])


def labels_of(session: Session, place: SessionPlace) -> dict[str, Sequence[Any]]:
    """The marks of every class that lie in a place, for `segment`: {class: places}.

    A place of a file without a region has those that lie in no place with one.
    """
    regions = [p.region for p in session.places if p.region is not None]
    inside = [place.region] if place.region is not None else []

    def within(mark: Any) -> bool:
        shape = shapely.Point(mark) if isinstance(mark, tuple) else mark
        boxes = inside or regions
        touched = any(shapely.box(*region.bounds).intersects(shape) for region in boxes)
        return touched if inside else not touched

    chosen = {each.name: [m for m in each.places if within(m)] for each in session.labels}
    return {name: marks for name, marks in chosen.items() if marks}


def _plain(mark: Any) -> Any:
    return mark if isinstance(mark, tuple) else mark_json(mark)


def _picture(session: Session, labelled: bool) -> str:
    several = "colours, kinds, groups, classes" if labelled else "colours, kinds, groups"
    lines = [f"pictures = [(name, each[name]) for name in features for each in ({several})]"]
    if labelled:
        lines = [
            "pictures = [",
            f"    (name, each[name]) for name in features for each in ({several}) if name in each",
            "]",
        ]
    lines += [
        "sky.view.figure(",
        "    *(field for _, field in pictures),",
        '    titles=[f"{name}: {sky.view.title(field)}" for name, field in pictures],',
        f"    columns={4 if labelled else 3},",
        ")",
    ]
    return "\n".join(lines)
