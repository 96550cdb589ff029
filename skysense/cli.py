"""`skysense`: the same verbs as the Python API, for people who live in a shell."""

import dataclasses
import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from skysense import cli_keep, cli_learn
from skysense.errors import SkySenseError

app = typer.Typer(
    help="See what a foundation model sees: SkySense features of any place.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Around = Annotated[tuple[float, float] | None, typer.Option(help="Centre: LON LAT in degrees.")]
Bounds = Annotated[
    tuple[float, float, float, float] | None, typer.Option(help="WEST SOUTH EAST NORTH in degrees.")
]
Size = Annotated[float, typer.Option(help="Side of the square around the centre (m).")]
Time = Annotated[str, typer.Option(help="A year, a month, or FIRST/LAST as ISO days.")]
Source = Annotated[
    str,
    typer.Option(
        help="planetary-computer, earth-search, a STAC address, a recipe or image file, or synthetic."
    ),
]
Sensors = Annotated[list[str] | None, typer.Option("--sensor", help="hr, s2, s1; may be repeated.")]
Out = Annotated[Path, typer.Option(help="Where to write; must not exist yet.")]


@app.command()
def stack(
    out: Out,
    source: Source = "auto",
    around: Around = None,
    bounds: Bounds = None,
    size: Size = 640,
    time: Time = "",
    sensor: Sensors = None,
    scene: Annotated[str, typer.Option(help="Scene of a recipe that lists several.")] = "",
) -> None:
    """Load the temporal stack of a place and keep it as Zarr."""
    from skysense.dates import summary
    from skysense.sources import load_stack
    from skysense.stack import all_notes, save_stack

    region = _region(around, bounds, size, time)
    loaded = load_stack(region, sensor or None, source, scene=scene or None)
    typer.echo(summary(loaded))
    for note in all_notes(loaded):
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"written: {save_stack(loaded, out)}")


@app.command()
def embed(
    stack: Annotated[
        Path, typer.Argument(help="A stack written by `skysense stack`, or a recipe.")
    ],
    out: Annotated[Path, typer.Option(help="Features: .zarr or .tif.")],
    encoder: Annotated[str, typer.Option(help="Name of the encoder.")] = "skysense-tiny",
    weights: Annotated[Path | None, typer.Option(help="Folder from `skysense convert`.")] = None,
    resolution: Annotated[int, typer.Option(help="Spacing of the features: 10, 20 or 40 m.")] = 10,
    device: Annotated[str, typer.Option(help="cuda, mps or cpu; the best if left out.")] = "",
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float64.")] = "auto",
    scene: Annotated[str, typer.Option(help="Scene of a recipe that lists several.")] = "",
    region: Annotated[
        str, typer.Option(help="Part of the stack: WEST,SOUTH,EAST,NORTH in degrees, or GeoJSON.")
    ] = "",
    dates: Annotated[
        str, typer.Option(help="Dates to use: all, or some of s2=20,s1=10,hr=1,first=DAY,last=DAY.")
    ] = "",
    memory: Annotated[float, typer.Option(help="What the work may hold at once (GB).")] = 4.0,
) -> None:
    """Encode a stack into features; interrupted work goes on where it stopped."""
    from skysense.embedding import embed as run
    from skysense.encoders import load_encoder
    from skysense.export import FEATURE_FILES, check_free, save_features
    from skysense.sources import load_stack
    from skysense.stack import open_stack

    check_free(out, FEATURE_FILES)  # before the work, not after it
    rule = _dates(dates)
    saved = stack.suffix == ".zarr" and not scene
    tree = open_stack(stack) if saved else load_stack(source=str(stack), scene=scene or None)
    part = _part(region, tree)
    model = load_encoder(encoder, path=weights, device=device or None, precision=precision)
    streamed = out if out.suffix == ".zarr" else None
    features = run(
        tree, model, resolution=resolution, region=part, dates=rule, memory_gb=memory,
        out=streamed, progress=_progress,
    )  # fmt: skip
    if streamed is None:
        save_features(features, out)
    if features.attrs["untrained"]:
        typer.echo(f"note: {encoder} is UNTRAINED: {features.attrs['weights']}.", err=True)
    for note in features.attrs["notes"]:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"written: {out} ({' × '.join(str(n) for n in features.shape)})")


@app.command()
def convert(
    files: Annotated[list[Path], typer.Argument(help="Official .pth files, split or in one.")],
    out: Annotated[Path, typer.Option(help="Folder to write safetensors and config to.")],
    licence: Annotated[str, typer.Option(help="Terms of these weights; required, travels along.")],
    source: Annotated[str, typer.Option(help="Where the files came from.")] = "",
    preset: Annotated[str, typer.Option(help="paper, base or tiny.")] = "paper",
) -> None:
    """Turn official checkpoints into safetensors, refusing anything incomplete or unsafe."""
    from skysense.convert import convert as run

    typer.echo(run(files, out, licence=licence, source=source, preset=preset).text())


@app.command()
def export(
    features: Annotated[Path, typer.Argument(help="Features written by `skysense embed`.")],
    out: Annotated[
        Path, typer.Option(help=".tif, .zarr or .parquet; with --groups also .geojson.")
    ],
    groups: Annotated[
        int, typer.Option(help="Export this many k-means groups instead; as a column of .parquet.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of the k-means.")] = 0,
) -> None:
    """Write features, or groups of them, for other tools."""
    from skysense.analysis import cluster
    from skysense.export import open_features, save_classes, save_features

    opened = open_features(features)
    if out.suffix.lower() == ".parquet":
        from skysense.table import save_table

        extra = {"group": cluster(opened, groups, seed=seed)} if groups else {}
        save_table(opened, out, **extra)
    elif groups:
        save_classes(cluster(opened, groups, seed=seed), out)
    else:
        save_features(opened, out)
    typer.echo(f"written: {out}")


for each in (*cli_learn.COMMANDS, *cli_keep.COMMANDS):
    app.command()(each)


@app.command(
    name="app",
    add_help_option=False,  # the dashboard reads its own options, --help among them
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
def dashboard(context: typer.Context) -> None:
    """Serve the dashboard with its embedded demo; takes the options of `python -m app`."""
    _serve(context.args, "skysense app")


@app.command()
def demo() -> None:
    """Serve the dashboard with its embedded demo and open a browser."""
    _serve(["--port", "0", "--open"], "skysense demo")


def _serve(arguments: list[str], name: str) -> None:
    """Start the dashboard, which lives above this module and is therefore found by name.

    Raises:
        SkySenseError: If the extra `app` is not installed.
    """
    try:
        command = importlib.import_module("app.__main__")
        command.start(arguments, name)
    except ModuleNotFoundError as error:
        raise SkySenseError(
            f"The dashboard needs {error.name}, which is not installed: pip install 'skysense[app]'."
        ) from error


def main() -> None:
    """Run the command line; an error that the user can mend is one sentence and exit code 1."""
    run(app)


def run(command: Callable[[], Any]) -> None:
    """Call `command`, turning our own errors into a sentence on standard error."""
    try:
        command()
    except (SkySenseError, OSError) as error:  # OSError: a full or read-only disk
        typer.echo(f"skysense: {for_shell(str(error))}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


OPTIONS = {"memory_gb": "memory", "path": "weights"} | {
    name: name for name in ("out", "scene", "dates", "device", "precision", "resolution", "size")
}
"""What an argument in Python is called here, where a sentence may name it."""

PYTHON = (
    (r"Region\.around\((?:[^()]|\([^()]*\))*\)", "--around LON LAT --size 640 --time 2024"),
    (r"time=\(first, last\)", "--time FIRST/LAST"),
    (r"\(choose_dates\)", "(--dates)"),
    (r"folders=\[\.\.\.\] with the folder it is in", "--folder with the folder it is in"),
    (r"catalogues=\['([^']*)'\]", r"--catalogue \1"),
)
"""Python in a sentence, and how a shell says it."""


def for_shell(sentence: str) -> str:
    """A sentence of the package with its Python arguments as options of the command line."""
    for python, words in PYTHON:
        sentence = re.sub(python, words, sentence)
    names = "|".join(OPTIONS)

    def option(found: re.Match) -> str:
        value = (found[2] or "").strip("'\"")
        return f"--{OPTIONS[found[1]]}" + (f" {value}" if value else "")

    sentence = re.sub(rf"(?<![\w?&/.-])({names})=('[^']*'|[\w.+-]*\w)?", option, sentence)
    return re.sub(rf"`({names})`|\b(memory_gb)\b", lambda m: f"--{OPTIONS[m[1] or m[2]]}", sentence)


def _dates(text: str) -> Any:
    """A rule for dates from `all` or `s2=8,first=2023-03-01`; None for the default."""
    from skysense.dates import ALL, Dates
    from skysense.errors import StackError

    if text in ("", "all"):
        return ALL if text else None
    kinds = {field.name: type(field.default) for field in dataclasses.fields(Dates)}
    values = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        try:
            several = kinds[name] is tuple
            values[name] = tuple(value.split("+")) if several else kinds[name](value)
        except (KeyError, ValueError) as error:
            raise StackError(
                f"--dates {text}: {part!r} is none of s2=N, s1=N, hr=N, first=DAY, last=DAY, "
                "clear=SHARE and without=SENSOR DAY+SENSOR DAY. Join some of them by commas, or give "
                "--dates all."
            ) from error
    return Dates(**values)


def _part(text: str, tree: Any) -> Any:
    """A place inside a stack, from four numbers or GeoJSON; None for all of it."""
    from skysense.region import Region
    from skysense.stack import region_of

    if not text:
        return None
    whole = region_of(tree)
    period = whole.time if whole is not None else ("2000-01-01", "2099-12-31")  # the place counts
    try:
        bounds = tuple(float(number) for number in text.replace(",", " ").split())
    except ValueError:
        return Region.from_geojson(text, period)
    return Region(bounds, period)  # type: ignore[arg-type]


def _region(
    around: tuple[float, float] | None,
    bounds: tuple[float, float, float, float] | None,
    size: float,
    time: str,
) -> Any:
    from skysense.errors import RegionError
    from skysense.period import checked_period
    from skysense.region import Region

    if around is None and bounds is None:
        return None
    if not time:
        raise RegionError("A place needs a period: --time 2024, or --time 2024-03-01/2024-10-31.")
    if around is not None and bounds is not None:
        raise RegionError("--around and --bounds are both given; one place is enough.")
    if around is not None:
        return Region.around(*around, size, time)
    return Region(bounds, checked_period(time))  # type: ignore[arg-type]


def _progress(done: int, total: int, sentence: str) -> None:
    end = "\n" if done == total else ""
    sys.stderr.write(f"\r{sentence:<60}{end}")  # over what a longer one left behind
    sys.stderr.flush()


if __name__ == "__main__":
    main()
