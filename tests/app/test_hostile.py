"""Strings that mean harm, pages of other origins, and names that were guessed, against a real server."""

import asyncio
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from app.overlays import Overlays
from app.places import Place, typed_region
from app.state import LabelClass
from app.words import safe, swatches
from benchmarks.visiting import Visitor

HOSTILE = {
    "script": "<script>document.title='owned'</script>",
    "image": '"><img src=x onerror="document.title=\'owned\'">',
    "quotes": "'\"`&amp;<!--",
    "right to left": "\u202etxt.exe\u202c",
    "nul": "a\x00b",
    "long": "x" * 10_000,
    "template": "${7*7}{{7*7}}",
    "url": "javascript:alert(1)",
}
MARKUP = re.compile(r"<(script|img|iframe|svg)\b", re.IGNORECASE)


@pytest.fixture(params=HOSTILE.values(), ids=HOSTILE.keys())
def hostile(request):
    return request.param


def test_no_hostile_text_opens_a_tag_or_leaves_an_attribute(hostile):
    assert not set(safe(hostile)) & set("<>\"'")
    assert not MARKUP.search(swatches([(hostile, "#123456")]))


def test_a_place_with_a_hostile_name_is_opened_and_encoded(visit, hostile):
    known = visit.state.places[0]
    visit.state.places = [Place("hostile", hostile, known.source, known.region), known]
    visit.flow.compute.store.get(
        ("stack", visit.state.places[0]), lambda: visit.flow.compute.stack(known)
    )
    visit.state.resolution = 40
    visit.open().encode()
    assert visit.state.status("encode").kind == "ready"


def test_a_class_with_a_hostile_name_is_kept_or_refused_in_a_sentence(encoded, hostile):
    before = len(encoded.state.classes)
    encoded.flow.labels.add_class(hostile)
    added = encoded.state.classes[before:]
    assert added == [] or added[0].empty == LabelClass(added[0].name, colour=added[0].colour)
    assert added or encoded.state.status("label").sentence


def test_hostile_properties_of_geojson_and_a_hostile_name_harm_no_region(hostile):
    ring = [[3, 50], [3.02, 50], [3.02, 50.01], [3, 50.01], [3, 50]]
    feature = {
        "type": "Feature",
        "properties": {"name": hostile, hostile: hostile},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    year = ("2023-01-01", "2023-12-31")
    region = typed_region(json.dumps(feature), 640, year, hostile)
    assert region.bounds == (3.0, 50.0, 3.02, 50.01)
    assert not MARKUP.search(safe(region.name))


def test_tokens_of_pictures_are_long_random_and_forgotten():
    overlays = Overlays()
    tokens = {overlays.put(b"png") for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(len(token) * 6 >= 128 for token in tokens)  # base 64: six bits each
    for token in tokens:
        overlays.drop(token)
    assert len(overlays) == 0
    assert all(overlays.get(token) is None for token in tokens)


# ------------------------------------------------------------------------------- a server of one's own


@pytest.fixture(scope="module")
def server():
    small = str(Path(__file__).with_name("serve_small.py"))
    process = subprocess.Popen([sys.executable, small, ""], stdout=subprocess.PIPE, text=True)
    yield re.search(r"http://\S+", process.stdout.readline())[0]
    process.terminate()
    process.wait(30)
    process.stdout.close()


def status_of(url):
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:1", "null", "file://"])
def test_a_page_of_another_origin_gets_no_connection(server, origin):
    async def connect():
        request = HTTPRequest(server.replace("http", "ws", 1) + "ws", headers={"Origin": origin})
        await websocket_connect(request, subprotocols=["bokeh", "token"])

    with pytest.raises(HTTPClientError, match="403"):
        asyncio.run(connect())


@pytest.mark.parametrize(
    "path",
    [
        "overlay/", "overlay/guess.png", "overlay/..%2f..%2fetc%2fpasswd.png", "overlay/*.png",
        "widget-assets/", "widget-assets/../../etc/passwd",
        "widget-assets/jupyter-leaflet@1/dist/..%2f..%2f..%2fetc%2fpasswd",
        "widget-assets/jupyter-leaflet@1/dist/%00", "tiles/0/0/../../health",
        "tiles/99/0/0.png", "static/../app/main.py", "static/..%2f..%2fetc%2fpasswd",
    ],
)  # fmt: skip
def test_nothing_but_what_is_meant_to_be_served_is_answered(server, path):
    assert status_of(server + path) in (403, 404)


def test_a_page_asked_for_with_hostile_parameters_is_a_page_that_repeats_none_of_them(
    server, hostile
):
    value = urllib.parse.quote(hostile[:4000])
    with urllib.request.urlopen(f"{server}?place={value}&{value}=1", timeout=60) as answer:
        assert answer.status == 200
        page = answer.read().decode()
    if MARKUP.search(hostile):
        assert hostile not in page


def test_visitors_come_and_go_and_leave_no_widget_and_no_picture(server):
    async def come_and_go():
        visitor = await Visitor.arrive(server)
        line = visitor.text("Click the map to inspect")
        await visitor.timed(visitor.click(3.0239, 50.816), lambda said: line in said)
        layers = visitor.find("RadioButtonGroup", "Clusters")
        await visitor.timed(visitor.choose(layers, "Clusters"), lambda said: "swatch" in said)
        await visitor.leave()

    async def held():
        for _ in range(120):
            with urllib.request.urlopen(f"{server}health", timeout=60) as answer:
                found = json.load(answer)
            if not any(found.values()):
                break
            await asyncio.sleep(0.5)
        return found

    async def several():
        for _ in range(10):
            await come_and_go()
        return await held()

    assert asyncio.run(several()) == {"widgets": 0, "pictures": 0, "pages": 0}


def test_a_server_that_is_told_to_stop_leaves_no_folder_behind(tmp_path):
    small = str(Path(__file__).with_name("serve_small.py"))
    process = subprocess.Popen(
        [sys.executable, small, ""],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    url = re.search(r"http://\S+", process.stdout.readline())[0]
    status_of(url)
    process.terminate()
    process.wait(30)
    process.stdout.close()
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith("skysense")] == []
