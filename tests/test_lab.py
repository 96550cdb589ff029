"""Widgets in JupyterLab, without the internet: what running notebooks cannot show."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import nbformat
import pytest

from tests.app.chromium import CHROMIUM, FLAGS

LOOPBACK = ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:", "about:")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
    pytest.mark.skipif(
        importlib.util.find_spec("jupyterlab") is None, reason="JupyterLab is not installed"
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None, reason="playwright is not installed"
    ),
]

CELL = """
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


@pytest.fixture
def lab(tmp_path):
    """Address of a JupyterLab of our own, whose root, settings and runtime are in tmp_path."""
    root = tmp_path / "root"
    root.mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL.strip())])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, root / "map.ipynb")
    settings = tmp_path / "settings/@jupyterlab/apputils-extension"
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
            "--IdentityProvider.token=",
            f"--ServerApp.root_dir={root}",
            f"--LabApp.user_settings_dir={tmp_path / 'settings'}",
            f"--LabApp.workspaces_dir={tmp_path / 'workspaces'}",
            "--LabApp.extension_manager=readonly",
        ],
        cwd=root,
        env={
            **{k: v for k, v in os.environ.items() if k != "MPLBACKEND"},
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
        yield url
    finally:
        process.terminate()  # by its own pid; it ends its kernels itself
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


@pytest.fixture
def page():
    """A browser page whose `outside` lists every address beyond this machine, all refused."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(viewport={"width": 1200, "height": 900})
        page = context.new_page()
        page.outside = []

        def gate(route):
            if route.request.url.startswith(LOOPBACK):
                route.continue_()
            else:
                page.outside.append(route.request.url)
                route.abort()

        context.route("**/*", gate)
        page.on(
            "websocket",
            lambda ws: None if ws.url.startswith(LOOPBACK) else page.outside.append(ws.url),
        )
        yield page
        browser.close()


def test_a_map_with_a_layer_of_ours_appears_in_lab_without_the_internet(lab, page):
    page.goto(f"{lab}/lab/tree/map.ipynb?reset")
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=60_000)
    # what is run before the kernel answers is lost, and only the status bar says when it does
    page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for(timeout=60_000)
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Shift+Enter")
    page.locator(".leaflet-container").first.wait_for(timeout=60_000)
    image = page.locator("img.leaflet-image-layer")
    image.wait_for(timeout=20_000)
    page.wait_for_function(
        "() => document.querySelector('img.leaflet-image-layer').naturalWidth > 0"
    )
    assert image.bounding_box()["width"] > 20
    assert page.outside == []
