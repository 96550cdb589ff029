"""Draw the pictures of the dashboard in the README: drive it in Chromium on a real place.

    python scripts/tour.py                   # all, into docs/figures
    python scripts/tour.py --only inside     # one of the gallery; also the names below, and `tour`

Needs Chromium, Playwright and the imagery that `tests/recipes` names. What is on the screen carries
its credit itself.
"""

import argparse
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "figures"
PLACE, OTHER = "be-flanders-parcels", "be-hesbaye-monthly"
SIZE = (1366, 768)
WIDTH = 820
"""Of the moving picture (pixels)."""
COLOURS = 256
"""In each picture of the gallery, half of them in the moving one; without dithering text stays exact, and colours
of small things are kept too."""
LARGEST = 300_000
"""Bytes that one picture of the gallery may have."""
EACH = 2600
"""How long each picture of the moving one stays (ms)."""
PATIENCE = 240_000
V2 = "SkySense V2 tiny"
"""Begins the title of the encoder to look inside; the shortest such title is taken, so the trained one."""

Share = tuple[float, float]
"""Across and down, in shares of a width and a height."""

CLICKS: dict[str, tuple[Share, ...]] = {
    "maize": ((0.57, 0.45), (0.72, 0.58), (0.48, 0.82), (0.62, 0.7)),
    "grass": ((0.82, 0.15), (0.95, 0.33), (0.64, 0.95), (0.29, 0.89)),
    "village": ((0.1, 0.35), (0.2, 0.55), (0.08, 0.75), (0.22, 0.2)),
}
"""Classes of the picture of labels as the parcels declare them, and where each is clicked, in shares of the place."""

BLOB: tuple[Share, ...] = (
    (0.25, 0.12),
    (0.36, 0.07),
    (0.5, 0.17),
    (0.5, 0.4),
    (0.34, 0.38),
    (0.25, 0.3),
)
"""Around a cloud of like cells in the scatter of the place."""

MAP = (8, 90, 908, 628)
"""The map with its layers above and its legend below (pixels)."""

RENAME, ADD = "Give the marked class this name", "Add a class of this name"


@contextmanager
def dashboard() -> Iterator[str]:
    """The address of a dashboard that lives as long as this."""
    command = [sys.executable, "-m", "app", "--port", "0", "--recipes", "tests/recipes"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        if found is None:
            raise SystemExit("The dashboard did not start.")
        yield found[0]
    finally:
        process.terminate()
        process.wait(30)


class Visitor:
    """The hands and the camera of one visit."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        page.set_default_timeout(PATIENCE)
        page.goto(url)
        page.locator("img.leaflet-image-layer").first.wait_for()
        page.wait_for_timeout(5000)

    def rest(self, wait: int = 1500) -> None:
        """Wait until nothing moves."""
        self.page.wait_for_timeout(wait)
        self.page.wait_for_function("() => Bokeh.documents[0].is_idle")
        self.page.locator(".line:visible", has_text="Cancel").wait_for(state="hidden")

    def look(self, wait: int = 4000) -> Image.Image:
        """A picture of the screen once nothing moves, with the mouse out of the way."""
        self.page.mouse.move(640, 758)
        self.rest(wait)
        return Image.open(BytesIO(self.page.screenshot())).convert("RGB")

    def press(self, text: str) -> None:
        """A button by the end of its text."""
        self.page.locator("button:visible", has_text=re.compile(f"{text}$")).first.click()

    def pick(self, menu: str, item: str) -> None:
        """An item of the menu behind a button."""
        self.press(menu)
        self.page.get_by_role("menuitem", name=item).click()

    def turn_to(self, tab: str) -> None:
        """A tab of the right column."""
        self.page.locator(".bk-tab", has_text=tab).click()
        self.rest()

    def reads(self, text: str) -> None:
        """Wait until this stands on the screen."""
        self.page.get_by_text(re.compile(text)).first.wait_for()

    def click(self, *where: Share) -> None:
        """The map, in shares of the place that is shown."""
        for across, down in where:
            box = self.page.locator("img.leaflet-image-layer").first.bounding_box()
            assert box is not None
            self.page.mouse.click(box["x"] + box["width"] * across, box["y"] + box["height"] * down)
            self.page.wait_for_timeout(900)

    def lasso(self, *corners: Share) -> None:
        """Around points of the scatter, in shares of the plot."""
        box = self.page.locator(".bk-Figure:visible").first.bounding_box()
        assert box is not None
        places = [(box["x"] + box["width"] * u, box["y"] + box["height"] * v) for u, v in corners]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in [*places[1:], places[0]]:
            self.page.mouse.move(*place, steps=6)
        self.page.mouse.up()

    def encode(self, place: str, encoder: str = "") -> None:
        """Open a place and encode it, with the encoder whose title begins so."""
        page = self.page
        page.get_by_role("combobox").nth(0).click()
        page.get_by_role("menuitem", name=place, exact=True).click()
        page.wait_for_timeout(4000)
        if encoder:
            page.get_by_role("combobox").nth(1).click()
            page.get_by_role("menuitem").first.wait_for()
            titles = [t.strip() for t in page.get_by_role("menuitem").all_inner_texts()]
            title = min((t for t in titles if t.startswith(encoder)), key=len)
            page.get_by_role("menuitem", name=title, exact=True).click()
            page.wait_for_timeout(2000)
        self.turn_to("Scatter")
        self.press("Encode")
        self.reads("cells; lasso")
        self.rest(3000)


# ------------------------------------------------------------------------------------ the gallery


def scatter(visitor: Visitor) -> Image.Image:
    """A cloud of points in the scatter, lit on the map."""
    visitor.encode(PLACE)
    visitor.lasso(*BLOB)
    visitor.reads("cells selected")
    return visitor.look()


def prototypes(visitor: Visitor) -> Image.Image:
    """The atlas, and its colours on the map."""
    visitor.encode(PLACE)
    visitor.turn_to("Prototypes")
    visitor.press("Prototypes")
    visitor.rest(6000)
    return visitor.look()


def compare(visitor: Visitor) -> Image.Image:
    """Two places through one bank, beside the controls."""
    visitor.encode(PLACE)
    visitor.encode(OTHER)
    visitor.turn_to("Compare")
    visitor.press("Compare")
    visitor.reads("Which prototypes pay")
    visitor.press("Prototypes")
    visitor.page.get_by_text("Three principal components").wait_for(state="hidden")
    return visitor.look(6000)


def labels(visitor: Visitor) -> Image.Image:
    """Classes from a few clicks, and what held-out blocks of ground say of them."""
    page = visitor.page
    visitor.encode(PLACE)
    visitor.turn_to("Label")
    rows, typed = page.get_by_role("option"), page.get_by_label("Class name")
    rows.nth(1).wait_for()
    for number, (name, places) in enumerate(CLICKS.items()):
        there = number < rows.count()
        if there:
            rows.nth(number).click()
            visitor.rest()
        typed.fill(name)
        visitor.rest(500)
        page.get_by_role("button", name=RENAME if there else ADD).click()
        rows.filter(has_text=name).wait_for()
        visitor.rest()
        visitor.click(*places)
        visitor.rest()
    visitor.press("Check accuracy")
    visitor.reads("Found again")
    return visitor.look()


def null(visitor: Visitor) -> Image.Image:
    """A layer, and beside it what a model without weights shows instead."""
    visitor.encode(PLACE)
    visitor.press("Clusters")
    shown = visitor.look()
    visitor.pick("Doubt", "Null: spectral")
    visitor.reads("NULL: spectral")
    both = [each.crop(MAP) for each in (shown, visitor.look(6000))]
    wide, tall = both[0].size
    beside = Image.new("RGB", (2 * wide, tall))
    for number, each in enumerate(both):
        beside.paste(each, (number * wide, 0))
    return beside


def inside(visitor: Visitor) -> Image.Image:
    """Which expert of V2 the tokens go to."""
    visitor.encode(PLACE, V2)
    visitor.turn_to("Inside")
    visitor.press("Map experts")
    visitor.page.get_by_role("option", name="expert 4").wait_for()
    return visitor.look(6000)


GALLERY = (scatter, prototypes, compare, labels, null, inside)


def tour(visitor: Visitor) -> list[Image.Image]:
    """The pictures of the moving one."""
    page = visitor.page
    visitor.encode(PLACE)
    pictures = [visitor.look(6000)]
    visitor.turn_to("Prototypes")
    visitor.press("Prototypes")
    pictures.append(visitor.look(6000))
    visitor.turn_to("Search")
    visitor.click((0.75, 0.35))
    pictures.append(visitor.look(5000))
    visitor.turn_to("Time")
    visitor.press("Each date")
    page.wait_for_timeout(25_000)
    pictures.append(visitor.look())
    visitor.turn_to("Label")
    for name, places in (("Class A", ((0.63, 0.42), (0.7, 0.5))), ("Class B", ((0.3, 0.4),))):
        page.get_by_text(name, exact=True).first.click()
        visitor.click(*places)
    return [*pictures, visitor.look()]


def keep_tour(pictures: list[Image.Image]) -> list[Path]:
    """Write the moving picture, and its first as `dashboard.png`."""
    still, moving = FIGURES / "dashboard.png", FIGURES / "tour.gif"
    pictures[0].quantize(256).save(still, optimize=True)
    height = round(WIDTH * SIZE[1] / SIZE[0])
    small = [each.resize((WIDTH, height), Image.Resampling.LANCZOS) for each in pictures]
    frames = [each.quantize(COLOURS // 2, dither=Image.Dither.NONE) for each in small]
    frames[0].save(
        moving, save_all=True, append_images=frames[1:], duration=EACH, loop=0, optimize=True
    )
    return [still, moving]


def keep_still(name: str, picture: Image.Image) -> Path:
    """Write a picture of the gallery."""
    path = FIGURES / f"gallery-{name}.png"
    kept = picture.quantize(COLOURS, dither=Image.Dither.NONE)
    kept.save(path, optimize=True)
    if path.stat().st_size > LARGEST:
        raise SystemExit(
            f"{path.name} has {path.stat().st_size / 1e3:.0f} kB, more than {LARGEST / 1e3:.0f}. "
            "Show less in it, or lower COLOURS."
        )
    return path


def main() -> None:
    """Write the pictures that are asked for."""
    drawing = {each.__name__: each for each in GALLERY}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=[*drawing, "tour"], metavar="NAME")
    wanted = parser.parse_args().only or ["tour", *drawing]
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with dashboard() as url, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name in wanted:
            started = time.perf_counter()
            page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
            visitor = Visitor(page, url)
            if name == "tour":
                written = keep_tour(tour(visitor))
            else:
                written = [keep_still(name, drawing[name](visitor))]
            page.close()
            for path in written:
                size, took = path.stat().st_size / 1e3, time.perf_counter() - started
                print(f"{path.name}: {size:.0f} kB, {took:.0f} s", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
