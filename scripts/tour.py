"""Draw the pictures of the dashboard in the README: drive it in Chromium on a real place.

    python scripts/tour.py            # writes dashboard.png, tour.gif and gallery-*.png in docs/figures

Needs Chromium, Playwright and the imagery that `tests/recipes` names. What is on the screen carries
its credit itself.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
PLACE, OTHER = "be-flanders-parcels", "be-hesbaye-monthly"
SIZE = (1366, 768)
WIDTH = 820
"""Of the moving picture and of those in the gallery (pixels)."""
EACH = 2600
"""How long each of its pictures stays (ms)."""
PATIENCE = 120_000


@contextmanager
def dashboard() -> Iterator[str]:
    """The address of a dashboard that lives as long as this."""
    command = [sys.executable, "-m", "app", "--port", "0", "--recipes", "tests/recipes"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        if found is None:
            raise SystemExit("The dashboard did not start.")
        yield found[0]
    finally:
        process.terminate()
        process.wait(30)


class Tour:
    """A visitor who takes a picture now and then."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.pictures: list[Image.Image] = []
        self.gallery: dict[str, Image.Image] = {}

    def look(self, wait: int = 4000) -> None:
        """Wait until nothing moves, and take a picture."""
        self.page.wait_for_timeout(wait)
        self.page.wait_for_function("() => Bokeh.documents[0].is_idle", timeout=PATIENCE)
        self.page.mouse.move(640, 758)
        self.page.wait_for_timeout(900)
        self.pictures.append(Image.open(BytesIO(self.page.screenshot())).convert("RGB"))

    def press(self, text: str) -> None:
        """A button by the end of its text."""
        self.page.locator("button:visible", has_text=re.compile(f"{text}$")).first.click()

    def turn_to(self, tab: str) -> None:
        """A tab of the right column."""
        self.page.locator(".bk-tab", has_text=tab).click()

    def click(self, across: float, down: float) -> None:
        """The map, in shares of its width and height."""
        box = self.page.locator(".leaflet-container").bounding_box()
        assert box is not None
        self.page.mouse.click(box["x"] + box["width"] * across, box["y"] + box["height"] * down)

    def encode(self, place: str) -> None:
        """Open a place and encode it."""
        self.page.get_by_role("combobox").nth(0).click()
        self.page.get_by_role("menuitem", name=place, exact=True).click()
        self.page.wait_for_timeout(5000)
        self.press("Encode")
        self.turn_to("Scatter")
        self.page.get_by_text("cells; lasso").wait_for(timeout=PATIENCE)

    def keep(self, name: str, wait: int = 4000) -> None:
        """A picture for the gallery."""
        self.look(wait)
        self.gallery[name] = self.pictures.pop()

    def linger(self) -> None:
        """What the gallery shows, after the tour: crops, a null model, and another place."""
        page = self.page
        self.press("Labels of this place")
        page.get_by_role("menuitem", name="crop_type").click()
        page.wait_for_timeout(5000)
        self.press("Check accuracy")
        page.get_by_text("Found again").wait_for(timeout=PATIENCE)
        self.keep("crops")
        self.press("Clusters")
        self.press("Doubt")
        page.get_by_role("menuitem", name="Null: spectral").click()
        page.get_by_text("NULL: spectral").wait_for(timeout=PATIENCE)
        self.turn_to("Scatter")
        self.keep("null", 6000)
        self.press("Doubt")
        page.get_by_role("menuitem", name="As it is").click()
        self.encode(OTHER)
        self.turn_to("Compare")
        page.wait_for_timeout(3000)
        self.press("Compare")
        page.locator("button:visible", has_text="Another year").wait_for(timeout=PATIENCE)
        self.press("Another year")
        page.get_by_text("checked against another year").wait_for(timeout=PATIENCE)
        self.press("Prototypes")
        self.keep("compare")
        self.press("Side by side")
        self.keep("side-by-side", 6000)

    def go(self, url: str) -> None:
        """The whole tour."""
        page = self.page
        page.goto(url)
        page.locator("img.leaflet-image-layer").first.wait_for(timeout=PATIENCE)
        page.wait_for_timeout(6000)
        self.encode(PLACE)
        self.look(6000)
        self.turn_to("Prototypes")
        self.press("Prototypes")
        self.look(6000)
        self.turn_to("Search")
        self.click(0.62, 0.35)
        self.look(5000)
        self.turn_to("Time")
        self.press("Each date")
        page.wait_for_timeout(25_000)
        self.look()
        self.turn_to("Label")
        for name, places in (("Class A", ((0.56, 0.42), (0.6, 0.5))), ("Class B", ((0.4, 0.4),))):
            page.get_by_text(name, exact=True).first.click()
            for place in places:
                self.click(*place)
                page.wait_for_timeout(1200)
        self.look()


def main() -> None:
    """Write the pictures."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with dashboard() as url, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tour = Tour(browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]}))
        tour.go(url)
        tour.linger()
        browser.close()
    tour.pictures[0].quantize(256).save(FIGURES / "dashboard.png", optimize=True)
    height = round(WIDTH * SIZE[1] / SIZE[0])
    small = [each.resize((WIDTH, height), Image.Resampling.LANCZOS) for each in tour.pictures]
    for name, picture in tour.gallery.items():
        kept = picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
        kept.quantize(128).save(FIGURES / f"gallery-{name}.png", optimize=True)
    frames = [each.quantize(128, dither=Image.Dither.NONE) for each in small]
    frames[0].save(
        FIGURES / "tour.gif", save_all=True, append_images=frames[1:], duration=EACH, loop=0,
        optimize=True,
    )  # fmt: skip
    for path in sorted(FIGURES.iterdir()):
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
