"""`sky.explore(region)` in a real JupyterLab: the whole page in a cell, without the internet."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("nbformat", reason="nbformat is not installed")
import nbformat
from playwright.sync_api import expect, sync_playwright

from tests.app.browsing import SLOW, watched
from tests.app.chromium import CHROMIUM, FLAGS, IN_CHROMIUM
from tests.test_lab import free_port, wait_until_up

ROOT = Path(__file__).parents[2]

pytestmark = [
    *IN_CHROMIUM,
    pytest.mark.skipif(
        importlib.util.find_spec("jupyterlab") is None, reason="JupyterLab is not installed"
    ),
]

CELL = """
import skysense as sky

region = sky.Region.around(3.0239, 50.8160, 320, ("2023-01-01", "2023-12-31"), "Near Kortrijk")
sky.explore(region, source="synthetic", encoder="spectral")
"""


@pytest.fixture
def lab(tmp_path):
    """Address of a JupyterLab of our own, with a token, whose root and settings are in tmp_path."""
    root = tmp_path / "root"
    root.mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL.strip())])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, root / "explore.ipynb")
    settings = tmp_path / "settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(
        json.dumps({"fetchNews": "false", "checkForUpdates": False})
    )
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root"),
            f"--ServerApp.port={port}",
            "--ServerApp.ip=127.0.0.1",
            "--IdentityProvider.token=secret",
            f"--ServerApp.root_dir={root}",
            f"--LabApp.user_settings_dir={tmp_path / 'settings'}",
            f"--LabApp.workspaces_dir={tmp_path / 'workspaces'}",
            "--LabApp.extension_manager=readonly",
        ],
        cwd=root,
        env={
            **{k: v for k, v in os.environ.items() if k != "MPLBACKEND"},
            "PYTHONPATH": str(ROOT),
            "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
            "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
            "IPYTHONDIR": str(tmp_path / "ipython"),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_up(f"{url}/api", process)
        yield f"{url}/lab/tree/explore.ipynb?reset&token=secret"
    finally:
        process.terminate()  # it ends its kernels, and they their pages
        process.wait(20)


def test_the_whole_page_works_in_a_cell(lab, tmp_path):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = watched(browser.new_context(viewport={"width": 1366, "height": 900}).new_page())
        page.goto(lab)
        page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for(timeout=SLOW)
        page.locator(".jp-CodeCell .cm-content").first.click()
        page.keyboard.press("Shift+Enter")
        screen = page.frame_locator(".jp-OutputArea iframe")
        screen.locator('img.leaflet-image-layer[src*="/overlay/"]').first.wait_for(timeout=2 * SLOW)
        frame = page.locator(".jp-OutputArea iframe")
        frame.scroll_into_view_if_needed()
        for name in ("Encode", "More"):  # the header fits the width of a cell
            button = screen.locator("button:visible", has_text=re.compile(f"{name}$")).first
            box, whole = button.bounding_box(), frame.bounding_box()
            assert box["x"] + box["width"] <= whole["x"] + whole["width"]
        screen.locator("button:visible", has_text=re.compile("Encode$")).first.click()
        expect(screen.get_by_text(re.compile(r"cells; lasso some"))).to_be_visible(timeout=2 * SLOW)
        page.screenshot(path=tmp_path / "lab.png")
        assert page.outside == []
        browser.close()
