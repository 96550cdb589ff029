"""A class pack: one folder with everything a session shows, that opens anywhere without a network.

    session.json   places, choices, labels, names, prototypes, view; its sources are the stacks here
    stacks/        the images of each place, as `save_stack` writes them
    features/      the features of each place, as `save_features` writes them
    README.txt     how to open it, and the terms of images and weights

A pack that came from somebody else is looked at before it is opened: only files and folders, no
links, no more than a size, and features that have the recorded hash.
"""

import dataclasses
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from skysense.analysis.pixels import check_features
from skysense.checks import number, shown
from skysense.disk import path_of, written
from skysense.errors import SessionError
from skysense.export import open_features, save_features
from skysense.hashes import feature_hash
from skysense.session import Session, SessionPlace
from skysense.session_file import open_session, save_session
from skysense.stack import all_notes, check_stack, open_stack, save_stack

SESSION = "session.json"
README = "README.txt"
MOST_FILES = 500_000


@dataclass(frozen=True)
class Pack:
    """What `open_pack` gives."""

    session: Session
    stacks: dict[str, xr.DataTree]
    """By name of the place, read when used."""
    features: dict[str, xr.DataArray]
    """By name of the place; of those places that have some."""


def save_pack(
    session: Session,
    folder: str | Path,
    stacks: Mapping[str, xr.DataTree],
    features: Mapping[str, xr.DataArray],
) -> Path:
    """Write a session with its images and features as one folder; `open_pack` opens it offline.

    Args:
        session: Its sources become the stacks in the folder, its hashes those of `features`.
        folder: A new folder, written whole or not at all.
        stacks: {name of the place: stack}; places without one are left out of the pack.
        features: {name of the place: features}.

    Returns:
        The folder.

    Raises:
        SessionError: If there is no stack, a name is no place of the session, or the folder is
            there already or cannot be written.
        SkySenseError: If a stack or features cannot be kept.
    """
    if not isinstance(session, Session):
        raise SessionError(f"{shown(session)} is not a session; make one with Session(places=...).")
    for what, given in (("stacks", stacks), ("features", features)):
        if not isinstance(given, Mapping):
            raise SessionError(
                f"{what}={shown(given)} is no table; give {{name of the place: ...}}."
            )
        for name in given:
            session.place(name)
    if not stacks or not set(features) <= set(stacks):
        raise SessionError(
            "A pack needs the stack of at least one place, and of every place with features; pass "
            "stacks={name of the place: stack}."
        )
    session = session.only(stacks)
    for tree in stacks.values():
        check_stack(tree)
    for each in features.values():
        check_features(each)
    folder = path_of(folder, SessionError, "folder")
    if folder.exists():
        raise SessionError(f"{folder} is already there. Choose another name or remove it first.")
    if not folder.parent.is_dir():
        raise SessionError(f"There is no folder {folder.parent}. Make it first.")
    with written(folder, SessionError) as partial:
        (partial / "features").mkdir(parents=True)
        places = []
        for number_, place in enumerate(session.places, start=1):
            stored = f"{number_}.zarr"
            save_stack(stacks[place.name], partial / "stacks" / stored)
            hashed = ""
            if place.name in features:
                save_features(features[place.name], partial / "features" / stored)
                hashed = feature_hash(features[place.name])
            source = str((partial / "stacks" / stored).absolute())
            places.append(dataclasses.replace(place, source=source, scene=None, features=hashed))
        inner = dataclasses.replace(session, places=tuple(places))
        save_session(inner, partial / SESSION)
        text = _readme(session, folder.name, stacks, features)
        (partial / README).write_text(text, "utf-8")
    return folder


def open_pack(folder: str | Path, most_gb: float = 20.0) -> Pack:
    """Open a pack that `save_pack` wrote.

    Args:
        folder: The pack.
        most_gb: A larger one is refused (GB).

    Returns:
        Session, stacks and features; pixels and features are read when they are used.

    Raises:
        SessionError: If there is no pack, it holds links or anything but files and folders, is too
            large, points out of its folder, or its features are not those that were recorded.
        SkySenseError: If a part of it is lost or damaged.
    """
    folder = path_of(folder, SessionError, "folder")
    if not (folder / SESSION).is_file():
        raise SessionError(f"There is no class pack at {folder}. save_pack(...) writes one.")
    _check_tree(folder, number("most_gb", most_gb, 0, 1e6, SessionError))
    session = open_session(folder / SESSION)
    stacks, features = {}, {}
    for i, place in enumerate(session.places, start=1):
        _check_source(place, folder, i)
        stacks[place.name] = open_stack(place.source)
        if place.features:
            features[place.name] = opened = open_features(folder / "features" / f"{i}.zarr")
            if feature_hash(opened) != place.features:
                raise SessionError(
                    f"The features of {place.name!r} in {folder} are not those that were packed: they "
                    "were changed or damaged. Copy the pack again."
                )
    return Pack(session, stacks, features)


def _check_source(place: SessionPlace, folder: Path, number_: int) -> None:
    known = (folder / "stacks" / f"{number_}.zarr").resolve()
    if place.source != str(known):
        raise SessionError(
            f"The place {place.name!r} of the pack wants {shown(place.source)}, but a pack holds the "
            f"images of its places itself, here as stacks/{number_}.zarr."
        )


def _check_tree(folder: Path, most_gb: float) -> None:
    """Refuse links, devices and too much, by what the folder says and without opening a file."""
    count, size = 0, 0
    for here, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(here) / name
            facts = path.lstat()
            if not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
                raise SessionError(
                    f"The pack holds {shown(str(path.relative_to(folder)))}, which is a link or no "
                    "plain file; packs are opened without following any. Copy the pack again."
                )
            count, size = count + 1, size + facts.st_size
            if count > MOST_FILES or size > most_gb * 1e9:
                raise SessionError(
                    f"The pack holds more than {most_gb:g} GB or {MOST_FILES:,} files. If you trust "
                    "it, pass a larger most_gb."
                )


def _readme(
    session: Session,
    name: str,
    stacks: Mapping[str, xr.DataTree],
    features: Mapping[str, xr.DataArray],
) -> str:
    lines = [
        f"{name}: a class pack of SkySense Explorer {session.version}",
        "",
        "Open it without a network:",
        "",
        "    import skysense as sky",
        f"    pack = sky.open_pack({name!r})",
        "    pack.session, pack.stacks, pack.features",
        "",
        "Places",
    ]
    for place in session.places:
        tree, made = stacks[place.name], features.get(place.name)
        lines += ["", f"  {place.name}"]
        lines += [f"    Images: {tree.attrs.get('source', '')}"]
        lines += [f"    Terms of the images: {tree.attrs.get('licence') or 'not stated'}"]
        if tree.attrs.get("synthetic"):
            lines.append("    SYNTHETIC: no satellite saw this place.")
        if made is not None:
            lines.append(f"    Encoder: {made.attrs.get('encoder')}, {made.attrs.get('weights')}")
            terms = made.attrs.get("weights_licence") or "not stated"
            lines.append(f"    Terms of the weights: {terms}")
            if made.attrs.get("untrained"):
                lines.append("    UNTRAINED: the weights are random numbers.")
        lines += [f"    Note: {note}" for note in all_notes(tree)]
    return "\n".join(lines) + "\n"
