"""The project keeps its own promises: one source of dependencies, quick import, import order."""

import ast
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_environment_yml_is_what_pyproject_says():
    spec = importlib.util.spec_from_file_location("environment", ROOT / "scripts/environment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "environment.yml").read_text() == module.environment()


def test_the_lock_names_the_torch_that_is_tested():
    assert "torch==2.13.0" in (ROOT / "requirements.lock").read_text().splitlines()


def test_importing_skysense_loads_neither_torch_nor_xarray():
    code = "import sys, skysense; print(sorted({'torch', 'xarray', 'panel'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_what_it_says_whatever_was_imported_before():
    import skysense as sky

    for path in ROOT.glob("skysense/*.py"):
        if not path.stem.startswith("__"):
            importlib.import_module(f"skysense.{path.stem}")
    modules = {name for name in sky.__all__ if inspect.ismodule(getattr(sky, name))}
    assert modules == {"view", "synthetic"}


def test_an_unknown_public_name_says_what_there_is():
    import skysense as sky

    with pytest.raises(AttributeError, match="load_stack"):
        _ = sky.load_stacks


def test_no_file_is_too_long_to_read():
    files = [*ROOT.glob("skysense/**/*.py"), *ROOT.glob("app/**/*.py")]
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: count for name, count in lines.items() if count > 400} == {}


def test_no_file_names_a_machine_path_or_a_registry():
    tracked = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.toml", "*.yml", "*.cff", "Makefile", "*.lock"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.split()  # fmt: skip
    pattern = re.compile(r"/(home|root|opt/wheels|work)/\w")
    faults = [
        name
        for name in tracked
        if name != "tests/test_project.py"
        and (ROOT / name).exists()
        and pattern.search((ROOT / name).read_text(encoding="utf-8"))
    ]
    assert faults == []


def test_the_ten_lines_of_the_readme_run(tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert blocks, "the README shows no Python"
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        ast.parse(block)
    exec(compile(blocks[0], "README.md", "exec"), {})


def test_every_link_of_the_documents_leads_somewhere():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    links = [
        (page, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if "://" not in target
    ]
    assert [f"{page.name}: {t}" for page, t in links if not (page.parent / t).exists()] == []
