"""Official SkySense checkpoints (.pth) to a folder that this package loads without unpickling.

Two forms are known: one file per part (`skysense_model_backbone_hr.pth` ... `_fusion.pth`), and one
file with a prefix per part. Every key the model needs must be there with its shape; a missing or
misshapen one is an error that names it. Nothing is ever loaded "as far as it fits".
"""

import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from skysense import weights
from skysense.errors import WeightsError
from skysense.model import PRESETS, SkySenseConfig, official
from skysense.model import __path__ as model_path
from skysense.tensor_header import read_header

#: Parts without which the whole model cannot run; the calendar may be absent.
REQUIRED = ("hr", "s2", "s1", "head_s2", "head_s1", "fusion")
#: Seconds one checkpoint may take to read, and memory it may take beyond a multiple of its size.
TIMEOUT = 900
MEMORY = 8 * 2**30
#: What the reading process inherits: how to find its libraries, and no secrets.
ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")


@dataclass(frozen=True)
class Report:
    """What a conversion did.

    Attributes:
        out: The checkpoint folder.
        weights: "sha256:..." of the tensors written.
        preset: The model the shapes belong to.
        licence: Terms of the weights.
        source: Where they come from.
        parameters: Parameters per part written.
        files: For each file its name, sha256 and what was found in it.
        unused: Keys that were in the files and are not needed, each with its reason.
        notes: What a user of the weights should know; also stored in the checkpoint.
    """

    out: Path
    weights: str
    preset: str
    licence: str
    source: str
    parameters: dict[str, int]
    files: tuple[dict[str, str], ...]
    unused: tuple[str, ...]
    notes: tuple[str, ...]

    def text(self) -> str:
        """The report in sentences and short lists."""
        lines = [
            f"Converted to {self.out} ({self.weights}).",
            f"Model: {self.preset}, {sum(self.parameters.values()):,} parameters.",
            f"Licence: {self.licence}",
            f"Source: {self.source or 'not stated'}",
            "Parts:",
            *(f"  {part}: {count:,} parameters" for part, count in self.parameters.items()),
            "Files:",
            *(f"  {f['name']}: {f['holds']} (sha256 {f['sha256']})" for f in self.files),
            *([f"Not used ({len(self.unused)} keys):"] if self.unused else []),
            *(f"  {u}" for u in self.unused),
            *(["Notes:"] if self.notes else []),
            *(f"  {n}" for n in self.notes),
        ]
        return "\n".join(lines) + "\n"

    def to_json(self) -> str:
        """The report as JSON text."""
        return json.dumps({**dataclasses.asdict(self), "out": str(self.out)}, indent=1)


@dataclass(frozen=True)
class _Part:
    """One part found in a file: official key (without prefix) -> (tensor file, key in it)."""

    file: Path
    keys: dict[str, tuple[Path, str]]
    shapes: dict[str, tuple[int, ...]]


def convert(
    files: list[Path],
    out: Path,
    *,
    licence: str,
    source: str = "",
    preset: str = "paper",
    parts: tuple[str, ...] | None = None,
) -> Report:
    """Convert official files to a checkpoint folder.

    Args:
        files: The .pth files, in any order, of either form; safetensors copies of them also work.
        out: Folder to write; new or empty.
        licence: Terms of the weights. The official ones are for non-commercial research only.
        source: Where the files come from.
        preset: The model they belong to, or "auto" to recognise it by its shapes.
        parts: Parts to expect, among `REQUIRED`; None = all of them. The calendar embedding is
            taken when it is there.

    Returns:
        The report, also written to the folder as `report.txt` and `report.json`.

    Raises:
        WeightsError: A file is unsafe or unreadable, a part is missing, given twice or not asked
            for, or a key is missing, misshapen or unknown.
    """
    wanted = _wanted_parts(parts)
    out = Path(out)
    if not files:
        raise WeightsError("No files were given to convert; name the official .pth files.")
    if preset != "auto" and preset not in PRESETS:
        raise WeightsError(f"There is no preset {preset!r}; use {', '.join(PRESETS)} or auto.")
    if not licence.strip():
        raise WeightsError(
            "The weights need a licence; the official SkySense weights are for non-commercial "
            "research only."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".convert-") as room:
        found: dict[str, _Part] = {}
        described, unused = [], []
        for file, (tensors, nest, extra) in _plain_files(files, Path(room)).items():
            here, holds, aside = _parts_of(file, tensors)
            unused += [f"{file.name}: {e}" for e in extra + aside]
            holds += f", under {nest!r}" if nest else ""
            for part, content in here.items():
                _add(found, part, content)
            described.append(
                {"name": file.name, "sha256": weights.file_sha256(file), "holds": holds}
            )
        unused += _drop_unused(found, wanted)
        config, notes = _match(found, wanted, preset)
        names = weights.official_names(config)
        tensors = {}
        for part in config.parts:
            for key, ours in names[part].items():
                tensors[ours] = _tensor(*found[part].keys[key])
        digest = weights.write_checkpoint(
            tensors, config, out, licence=licence, source=source, notes=tuple(notes)
        )
    report = Report(
        out,
        digest,
        config.name,
        licence,
        source,
        weights.parameter_counts(config),
        tuple(described),
        tuple(unused),
        tuple(notes),
    )
    (out / "report.txt").write_text(report.text(), encoding="utf-8")
    (out / "report.json").write_text(report.to_json() + "\n", encoding="utf-8")
    return report


def _wanted_parts(parts: tuple[str, ...] | None) -> tuple[str, ...]:
    wanted = REQUIRED if parts is None else tuple(dict.fromkeys(parts))
    unknown = sorted(set(wanted) - set(REQUIRED))
    if unknown or not wanted:
        raise WeightsError(
            f"Parts {unknown} cannot be converted; name some of {', '.join(REQUIRED)}."
        )
    return wanted


def _add(found: dict[str, _Part], part: str, content: _Part) -> None:
    """Keep a part, refusing a second one that is not the same."""
    if part not in found:
        found[part] = content
        return
    first = found[part]
    if part == "calendar" and first.shapes == content.shapes:
        # The official tool leaves a copy in each Sentinel file.
        one, other = (_tensor(*p.keys[official.CALENDAR_KEY]) for p in (first, content))
        if bool((one == other).all()):
            return
    raise WeightsError(
        f"Two files hold the part {part}: {first.file.name} and {content.file.name}"
        f"{', and they differ' if part == 'calendar' else ''}; give one of them."
    )


def _parts_of(file: Path, tensors: Path) -> tuple[dict[str, _Part], str, list[str]]:
    """Parts in a file, a phrase on what it holds, and keys left aside."""
    shapes = {k: shape for k, (_, shape) in read_header(tensors).items()}
    parts, holds, aside = official.split(file.name, shapes)
    found = {
        part: _Part(
            file,
            {k: (tensors, raw) for k, raw in keys.items()},
            {k: shapes[raw] for k, raw in keys.items()},
        )
        for part, keys in parts.items()
    }
    return found, holds, aside


def _drop_unused(found: dict[str, _Part], wanted: tuple[str, ...]) -> list[str]:
    """Remove what the files may hold beyond the model; returns what it was."""
    aside = []
    if "fusion" not in wanted and (calendar := found.pop("calendar", None)):
        aside.append(f"{calendar.file.name}: {official.CALENDAR_KEY} (used by fusion only)")
    if "hr" not in found:
        return aside
    hr = found["hr"]
    unused = [k for k in hr.keys if official.UNUSED.fullmatch(k)]
    for key in unused:
        del hr.keys[key], hr.shapes[key]
    return aside + [f"{hr.file.name}: {k} (not part of the forward pass)" for k in unused]


def _match(
    found: dict[str, _Part], wanted: tuple[str, ...], preset: str
) -> tuple[SkySenseConfig, list[str]]:
    """The configuration these parts fill exactly, and notes on what is special about them."""
    have = [p for p in REQUIRED if p in found]
    if missing := [p for p in wanted if p not in found]:
        raise WeightsError(
            f"The files hold {', '.join(have) or 'no part'}, but {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing; give all files, or say with parts= "
            "which of them are meant to be there."
        )
    if surplus := [p for p in have if p not in wanted]:
        raise WeightsError(
            f"The files hold {', '.join(surplus)}, which parts={', '.join(wanted)} does not name."
        )
    config = PRESETS[_recognise(found, have) if preset == "auto" else preset]
    notes = []
    if missing := [p for p in REQUIRED if p not in wanted]:
        notes.append(f"Only part of the model: {', '.join(missing)} were left out on purpose.")
    config = dataclasses.replace(config, parts=tuple(p for p in REQUIRED if p in wanted))
    for part, schema in weights.official_schema(config).items():
        shapes = found[part].shapes
        rows = shapes.get("pos_embed", (0, 0))
        if part in ("s2", "s1") and rows[1:2] == (schema["pos_embed"][1] - 1,):
            raise WeightsError(
                f"pos_embed in {found[part].file.name} has no row for the class token "
                f"({list(rows)}): these are SkySense++ weights. Give the V1 files."
            )
        weights.check_names(shapes, schema, f"{found[part].file.name} ({part})")
    if "calendar" in found:
        config = _with_calendar(config, found["calendar"])
    elif "fusion" in wanted:
        notes.append("These files hold no calendar embedding (ctpe): dates are fused without it.")
    return config, notes


def _recognise(found: dict[str, _Part], have: list[str]) -> str:
    """The preset whose shapes are these."""
    for name, config in PRESETS.items():
        schema = weights.official_schema(config)
        if all(found[p].shapes == schema[p] for p in have):
            return name
    raise WeightsError(
        f"No preset ({', '.join(PRESETS)}) has the keys and shapes of these files; name the one you "
        "mean, and what does not fit will be listed."
    )


def _with_calendar(config: SkySenseConfig, part: _Part) -> SkySenseConfig:
    """The configuration with as many calendar rows as the file has."""
    shape = part.shapes[official.CALENDAR_KEY]
    if len(shape) != 3 or shape[0] != 1 or shape[1] < 365 or shape[2] != config.fusion.in_dim:
        raise WeightsError(
            f"{official.CALENDAR_KEY} in {part.file.name} has shape {list(shape)}; expected [1, 365, "
            f"{config.fusion.in_dim}], one row per day of the year."
        )
    fusion = dataclasses.replace(config.fusion, calendar_rows=shape[1])
    return dataclasses.replace(config, fusion=fusion, parts=(*config.parts, "calendar"))


def _tensor(file: Path, key: str) -> Tensor:
    with safe_open(file, framework="pt", device="cpu") as stream:
        tensor = stream.get_tensor(key)
    if not tensor.is_floating_point():
        raise WeightsError(f"The weight {key} holds {tensor.dtype}, not floating-point numbers.")
    return tensor.float()


def _plain_files(files: list[Path], room: Path) -> dict[Path, tuple[Path, str | None, list[str]]]:
    """Each file as safetensors: itself, or what a process of its own made of it, under limits.

    Returns:
        For each file its safetensors file, the key the state dict was under, and entries beside.
    """
    out: dict[Path, tuple[Path, str | None, list[str]]] = {}
    pickled: list[tuple[Path, Path]] = []
    for number, file in enumerate(map(Path, files)):
        if not file.is_file():
            raise WeightsError(f"{file} is not a file.")
        out[file] = (file, None, [])
        if file.suffix != ".safetensors":
            folder = room / str(number)
            folder.mkdir()
            pickled.append((file, folder))
    last_words = _run_reader(pickled) if pickled else ""
    for file, folder in pickled:
        out[file] = _answer(file, folder, last_words)
    return out


def _run_reader(pickled: list[tuple[Path, Path]]) -> str:
    """Read pickled files into their folders; returns the reader's last line of complaint."""
    script = Path(model_path[0]) / "unpickle.py"
    memory = MEMORY + 6 * max(file.stat().st_size for file, _ in pickled)
    pairs = [str(path.resolve()) for pair in pickled for path in pair]
    try:
        run = subprocess.run(
            [sys.executable, "-I", str(script), str(memory), str(math.ceil(TIMEOUT)), *pairs],
            cwd=pickled[0][1],
            env={k: os.environ[k] for k in ENVIRONMENT if k in os.environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        names = ", ".join(file.name for file, _ in pickled)
        raise WeightsError(
            f"{names} could not be read within {TIMEOUT} seconds; a file is damaged or hostile."
        ) from error
    return (run.stderr.strip().splitlines() or [f"exit status {run.returncode}"])[-1]


def _answer(file: Path, folder: Path, last_words: str) -> tuple[Path, str | None, list[str]]:
    """What the reader said about one file."""
    outcome = folder / "result.json"
    if not outcome.is_file():
        raise WeightsError(f"{file.name} is no checkpoint that can be read: {last_words[:300]}")
    result = json.loads(outcome.read_text(encoding="utf-8"))
    if unsafe := result.get("unsafe"):
        raise WeightsError(
            f"{file.name} wants to run code while being read ({', '.join(unsafe[:10])}), which "
            "weights never need. It was not loaded; get the file from its official source."
        )
    if refused := result.get("refused"):
        raise WeightsError(f"{file.name} was not loaded: {str(refused)[:300]}.")
    aside = [f"{k} (beside the state dict)" for k in result["beside"]]
    aside += [f"{k} (not a tensor)" for k in result["others"]]
    return folder / "tensors.safetensors", result["nest"], aside
