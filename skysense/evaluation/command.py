"""`skysense evaluate`: from names of weights to a page and a file of numbers."""

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import torch
from platformdirs import user_cache_path

from skysense.encoders import SHIPPED, Encoder, SkySenseEncoder, load_encoder
from skysense.errors import AnalysisError, EncoderError
from skysense.evaluation.outputs import Network, architecture, untrained_twin
from skysense.evaluation.places import find_tasks
from skysense.evaluation.run import Record, evaluate, from_json, merged, to_json
from skysense.evaluation.table import page, tasks_page
from skysense.evaluation.tasks import Skipped
from skysense.weights import load_checkpoint

DATA_LIST = "data.json"
"""What training saw, in the folder of a checkpoint: a list of texts or objects, one per place (or an
object whose `places` is such a list, as `skysense.pretrain` writes in its index)."""

KEEP = "<!-- kept by `skysense evaluate` -->"
"""What follows this line of the page is kept when it is written anew."""


def run(
    *,
    encoders: Sequence[str] = (),
    checkpoints: Sequence[str] = (),
    out: Path = Path("docs/evaluation.md"),
    shared: Path = Path("../shared"),
    recipes: Path = Path("tests/recipes"),
    merge: Sequence[Path] = (),
    only: Sequence[str] = (),
    untrained: bool = True,
    against: str = "",
    cache: Path | None = None,
    device: str | None = None,
) -> str:
    """Evaluate and write the pages; returns a sentence.

    Args:
        encoders: Names that `load_encoder` knows.
        checkpoints: NAME=FOLDER each, from `skysense convert` or training.
        out: The page; task by task it goes on in `-tasks.md` beside it, and the numbers are in `.json`.
        shared: Folder of labelled sets.
        recipes: Folder of recipes with labels.
        merge: Numbers of other runs to show beside these.
        only: Words one of which the name of a task must hold.
        untrained: Whether each trained network's untrained twin is run.
        against: Name of the run that the checkpoints equal but for one part each; it may be one of them,
            or be in `merge`. They are then compared with it, map by map, and not held to the bar.
        cache: Where finished scores are kept.
        device: As `load_encoder`.

    Raises:
        AnalysisError: If nothing can be evaluated, or nobody has the name `against`.
        EncoderError, WeightsError: If an encoder cannot be loaded.
    """
    started = time.perf_counter()
    models = _models(encoders, checkpoints, device, against)
    others = [from_json(path.read_text(encoding="utf-8")) for path in merge]
    known = {each.name for each in models}.union(each.network for each in chain(*others))
    if against and against not in known:
        raise AnalysisError(
            f"There is no network {against!r} to compare with; evaluate it in the same run, or merge numbers "
            "that hold it."
        )
    if untrained:
        models += _twins(models)
    tasks, skipped = find_tasks(shared, recipes)
    if only:
        kept = [t for t in tasks if any(word.lower() in t.name.lower() for word in only)]
        skipped += [Skipped(t.name, "not asked for") for t in tasks if t not in kept]
        tasks = kept
    for each in skipped:
        _say(f"skipped: {each.name}: {each.reason}")
    if not tasks:
        raise AnalysisError(
            f"There is nothing to evaluate: no labelled place under {shared} or {recipes}"
            f"{' with ' + ' or '.join(only) + ' in its name' if only else ''}."
        )
    cache = user_cache_path("skysense") / "evaluation" if cache is None else cache
    records, impossible = evaluate(models, tasks, cache=cache, say=_say)
    for each in impossible:
        _say(f"skipped: {each.name}: {each.reason}")
    records = merged(*others, records)
    facts = [_facts(records), f"Last run on {_machine()}."]
    out.parent.mkdir(parents=True, exist_ok=True)
    kept = ""
    if out.exists() and KEEP in (before := out.read_text(encoding="utf-8")):
        kept = KEEP + before.split(KEEP, 1)[1]
    by_task = out.with_name(f"{out.stem}-tasks.md")
    text = page(records, tasks, skipped + impossible, facts, kept, out.stem)
    out.write_text(text, encoding="utf-8")
    by_task.write_text(tasks_page(records, out.stem), encoding="utf-8")
    numbers = out.with_suffix(".json")
    numbers.write_text(to_json(records, skipped + impossible), encoding="utf-8")
    minutes = (time.perf_counter() - started) / 60
    return f"{len(records)} rows of {len(tasks)} tasks in {minutes:.1f} minutes: {out}, {by_task} and {numbers}"


def _models(
    encoders: Sequence[str], checkpoints: Sequence[str], device: str | None, against: str
) -> list[Network | Encoder]:
    models: list[Network | Encoder] = []
    for name in encoders:
        encoder = load_encoder(name, device=device, precision="float32")
        if isinstance(encoder, SkySenseEncoder):
            seen = () if encoder.untrained else places_seen(SHIPPED[name])
            models.append(Network(encoder, seen=seen))
        # Any other encoder that comes with us has no weights: its rows are there without a network.
    for text in checkpoints:
        name, _, folder = text.partition("=")
        if not name or not folder:
            raise EncoderError(f"{text!r} is not NAME=FOLDER, such as v1=weights/skysense-v1.")
        network = network_of(Path(folder), name, device)
        network.against = against if name != against else ""
        models.append(network)
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        raise EncoderError(f"Two encoders have one name among {', '.join(names)}; name them apart.")
    return models


def network_of(folder: Path, name: str, device: str | None = None) -> Network:
    """A checkpoint folder of any size, with the list of what its training saw if there is one.

    Raises:
        WeightsError: If the folder holds no complete, safe checkpoint.
    """
    loaded = load_checkpoint(folder)
    encoder = SkySenseEncoder(
        loaded.model,
        name=name,
        weights=loaded.weights,
        licence=loaded.licence,
        notes=loaded.notes,
        device=device,
    )
    return Network(encoder, seen=() if encoder.untrained else places_seen(folder))


def places_seen(folder: Path) -> list[str] | None:
    """What the training of a checkpoint saw, one text per place; None without `data.json`.

    Raises:
        AnalysisError: If the file is there and is no such list.
    """
    file = folder / DATA_LIST
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise AnalysisError(f"{file} is not JSON: {error}.") from error
    places = content.get("places") if isinstance(content, dict) else content
    if not isinstance(places, list):
        raise AnalysisError(f"{file} must be a list of places, or an object with a list `places`.")
    return [each if isinstance(each, str) else json.dumps(each) for each in places]


def _twins(models: list[Network | Encoder]) -> list[Network]:
    """One untrained network for every architecture among the trained ones that are held to the bar.

    That of V1's `tiny` is called `untrained`, one of another preset `untrained v2-tiny`, further ones of a
    preset `untrained v2-tiny 2`: a name does not depend on who else is evaluated, so that pages can be merged.
    """
    twins: dict[str, Network] = {}
    presets: Counter[str] = Counter()
    for model in models:
        if isinstance(model, Network) and not (model.encoder.untrained or model.against):
            form = architecture(model)
            if form not in twins:
                preset = model.model.config.name
                presets[preset] += 1
                words = ["untrained", "" if preset == "tiny" else preset]
                words.append(str(presets[preset]) if presets[preset] > 1 else "")
                name = " ".join(word for word in words if word)
                twins[form] = untrained_twin(model, name)
            model.null = twins[form].name
    return list(twins.values())


def _facts(records: Sequence[Record]) -> str:
    """Which networks the page is about, those of merged runs too."""
    weights = {each.network: each.weights for each in records if each.network != "none"}
    said = [f"{name} ({_short(identity)})" for name, identity in weights.items()]
    return f"Networks: {'; '.join(said)}." if said else "No network was evaluated."


def _short(identity: str) -> str:
    """The identity of weights, as far as one reads it."""
    kind, _, digest = identity.partition(":")
    return f"{kind}:{digest[:12]}"


def _machine() -> str:
    where = "a GPU" if torch.cuda.is_available() else "no GPU"
    return f"{torch.get_num_threads()} threads, {where}, torch {torch.__version__}"


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
