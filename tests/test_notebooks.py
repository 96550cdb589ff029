import base64
import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]

spec = importlib.util.spec_from_file_location("run_notebooks", ROOT / "scripts/notebooks.py")
runner = importlib.util.module_from_spec(spec)
spec.loader.exec_module(runner)

TEXT = '# %% [markdown]\n# Title\n\n# %%\nprint("one")\n'


def outputs(path):
    notebook = nbformat.read(path, as_version=4)
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def write(folder, text):
    source = folder / "01_short.py"
    source.write_text(text)
    return source


def test_every_notebook_has_the_cells_of_its_source():
    assert len(NOTEBOOKS) == len(runner.sources()) >= 5
    assert runner.differing() == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_stored_outputs_are_text_and_png_only(path):
    kinds = set()
    for output in outputs(path):
        assert output.output_type in {"stream", "display_data", "execute_result"}
        kinds |= {output.name} if output.output_type == "stream" else set(output.data)
    assert "image/png" in kinds
    assert kinds <= {"stdout", "image/png", "text/plain"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_stored_notebooks_are_small_enough_to_read_in_a_browser(path):
    assert path.stat().st_size <= 300_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_stored_outputs_name_no_machine(path):
    pattern = re.compile(r"/(home|root|tmp|work|usr|opt|Users|var)/|[A-Z]:\\|file://")
    for output in outputs(path):
        text = output.get("text", "") or output.get("data", {}).get("text/plain", "")
        assert not pattern.search(text), text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_every_code_cell_was_run_in_order(path):
    cells = nbformat.read(path, as_version=4).cells
    counts = [cell.execution_count for cell in cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_notebooks_ask_first_and_end_with_exercises_and_where_it_lives(path):
    texts = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown"]
    assert texts[0].startswith("# ")
    assert texts[0].splitlines()[0].endswith("?")
    for part in ("## Exercises", "<details><summary>Solutions</summary>", "*Where this lives:*"):
        assert part in texts[-1]


@pytest.mark.slow
def test_a_changed_source_is_noticed(tmp_path):
    source = write(tmp_path, TEXT)
    assert runner.differing(tmp_path) == ["01_short.py"]
    runner.run(source)
    assert runner.differing(tmp_path) == []
    write(tmp_path, TEXT.replace("one", "two"))
    assert runner.differing(tmp_path) == ["01_short.py"]


@pytest.mark.slow
def test_a_failing_notebook_makes_the_runner_fail_and_is_named(tmp_path, monkeypatch, capsys):
    write(tmp_path, TEXT + "\n# %%\n1 / 0\n")
    monkeypatch.setattr(runner, "sources", lambda: [tmp_path / "01_short.py"])
    assert runner.main([]) == 1
    assert "01_short: FAILED" in capsys.readouterr().out
    assert not (tmp_path / "01_short.ipynb").exists()


def test_a_warning_is_refused():
    output = nbformat.v4.new_output("stream", name="stderr", text="UserWarning: look out")
    with pytest.raises(ValueError, match="look out"):
        runner.stored(output)


def test_widgets_and_scripts_are_not_stored():
    data = {"text/html": "<script>", "text/plain": "<Map>"}
    assert runner.stored(nbformat.v4.new_output("display_data", data=data)) is None


def test_a_picture_keeps_its_size_when_its_colours_are_reduced():
    stored = next(o for o in outputs(NOTEBOOKS[0]) if "image/png" in o.get("data", {}))
    again = base64.b64decode(runner.smaller(stored.data["image/png"]))
    assert again[16:24] == base64.b64decode(stored.data["image/png"])[16:24]  # width and height
