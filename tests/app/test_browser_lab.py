"""In a real JupyterLab, without the internet: layers on a map, and the whole page, in a cell."""

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("nbformat", reason="nbformat is not installed")
import nbformat
from playwright.sync_api import expect

from tests.app.browsing import SLOW
from tests.app.chromium import IN_CHROMIUM

ROOT = Path(__file__).parents[2]

pytestmark = [
    *IN_CHROMIUM,
    pytest.mark.skipif(
        importlib.util.find_spec("jupyterlab") is None, reason="JupyterLab is not installed"
    ),
]

MAP = """
import ipyleaflet
import skysense as sky

stack, truth = sky.synthetic.scene(size=160, sensors=("s2",))
layer = sky.view.overlay(truth)
(south, west), (north, east) = layer.bounds
ipyleaflet.Map(
    center=((south + north) / 2, (west + east) / 2),
    zoom=16,
    layers=[ipyleaflet.ImageOverlay(url=layer.url, bounds=layer.bounds)],
)
"""

EXPLORE = """
import skysense as sky

region = sky.Region.around(3.0239, 50.8160, 320, ("2023-01-01", "2023-12-31"), "Near Kortrijk")
sky.explore(region, source="synthetic", encoder="spectral")
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_up(url, process, seconds=60):
    for _ in range(seconds * 4):
        assert process.poll() is None, "JupyterLab ended before it answered"
        try:
            urllib.request.urlopen(url, timeout=5).read()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.25)
        else:
            return
    pytest.fail(f"JupyterLab did not answer within {seconds} s")


@contextmanager
def lab(folder, cell):
    """Address of a notebook of one cell in a JupyterLab whose root, settings and runtime are in
    `folder`."""
    root = folder / "root"
    root.mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip())])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, root / "one.ipynb")
    settings = folder / "settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    # the question about news is itself a request to the internet
    (settings / "notification.jupyterlab-settings").write_text(
        json.dumps({"fetchNews": "false", "checkForUpdates": False})
    )
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root"),
            f"--ServerApp.port={port}",
            "--ServerApp.port_retries=0",
            "--ServerApp.ip=127.0.0.1",
            "--IdentityProvider.token=secret",
            f"--ServerApp.root_dir={root}",
            f"--LabApp.user_settings_dir={folder / 'settings'}",
            f"--LabApp.workspaces_dir={folder / 'workspaces'}",
            "--LabApp.extension_manager=readonly",
        ],
        cwd=root,
        env={
            **{k: v for k, v in os.environ.items() if k != "MPLBACKEND"},
            "PYTHONPATH": str(ROOT),
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "IPYTHONDIR": str(folder / "ipython"),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_up(f"{url}/api", process)
        yield f"{url}/lab/tree/one.ipynb?reset&token=secret"
    finally:
        process.terminate()  # it ends its kernels, and they their pages
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def run_the_cell(page, url):
    page.goto(url)
    # what is run before the kernel answers is lost, and only the status bar says when it does
    page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for()
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Shift+Enter")


def test_a_map_with_a_layer_of_ours_appears_in_lab_without_the_internet(page, tmp_path):
    with lab(tmp_path, MAP) as url:
        run_the_cell(page, url)
        image = page.locator("img.leaflet-image-layer")
        image.wait_for()
        page.wait_for_function(
            "() => document.querySelector('img.leaflet-image-layer').naturalWidth > 0"
        )
        assert image.bounding_box()["width"] > 20


def test_the_whole_page_works_in_a_cell(page, tmp_path):
    with lab(tmp_path, EXPLORE) as url:
        run_the_cell(page, url)
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
