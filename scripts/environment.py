"""Write environment.yml from pyproject.toml, the one source of dependencies.

Run `python scripts/environment.py` after changing a dependency; a test fails when they differ.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

CONDA_NAMES = {
    "torch": "pytorch",
    "pillow": "pillow",
    "dask[distributed]": "dask",
}
"""Where conda-forge uses another name."""

PIP_ONLY = {"antimeridian", "global-land-mask"}
"""Installed by pip inside the environment."""

EXTRAS = ("app", "notebooks")


def environment() -> str:
    """The text of environment.yml: core, app and notebook dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = list(project["dependencies"])
    for extra in EXTRAS:
        wanted += project["optional-dependencies"][extra]
    conda, pip = [], []
    for requirement in wanted:
        name = re.match(r"[A-Za-z0-9_.\-\[\]]+", requirement)
        if name is None or name[0].startswith("skysense"):
            continue
        target = pip if name[0] in PIP_ONLY else conda
        target.append(requirement.replace(name[0], CONDA_NAMES.get(name[0], name[0])))
    lines = [
        "# Written by scripts/environment.py from pyproject.toml; do not edit.",
        "# Choose a CUDA build of pytorch by the usual conda selectors.",
        "name: skysense",
        "channels: [conda-forge, nodefaults]",
        "dependencies:",
        f"  - python {project['requires-python']}",
        *(f"  - {each}" for each in sorted(conda, key=str.lower)),
        "  - pip",
        "  - pip:",
        *(f"      - {each}" for each in sorted(pip)),
        "      - --no-deps -e .",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "environment.yml").write_text(environment(), encoding="utf-8")
