"""The map: an offline basemap, two picture slots, the selection, label points, and the hands."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ipyleaflet
import param
import xarray as xr

from app import basemap
from app.cells import ground_of, outline_of
from app.drawings import LIKE, UNLIKE, collection, marks_of, point
from app.flow import Flow
from app.leaflet import LocalLeaflet, detach, widgets_in
from app.overlays import Overlays
from app.pictures import Picture, keep
from app.state import DRAWING_PLACE, State
from app.theme import ACCENT, MAP_CSS
from skysense import view
from skysense.region import Region
from skysense.windows import Bounds

TYPICAL = (884.0, 452.0)
"""Size of the map on a small laptop (pixels), until the browser tells."""

KEPT = 24
"""Pictures of one session that stay on the server; more than a browser asks for at once."""

_FEW = 8
"""Pixels by which a map may be off where nobody has moved it."""

_BLANK = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
_NOWHERE = ((0.0, 0.0), (0.0001, 0.0001))
_CURSOR = {"inspect": "pointer", "select": "crosshair", "label": "cell", DRAWING_PLACE: "crosshair"}


@dataclass(frozen=True)
class Web:
    """How the map reaches its server, and a tile service if the user named one."""

    overlays: Overlays
    prefix: str = ""
    tiles: str = ""
    credit: str = ""


class MapView:
    """One session's map."""

    def __init__(self, flow: Flow, web: Web) -> None:
        self.flow, self.state, self._web = flow, flow.state, web
        self.on_drawn: Callable[[dict[str, Any]], None] = flow.drawn
        flow.middle = self._middle
        self._size = TYPICAL
        self._filled: set[str] = set()
        self._wanted: xr.DataArray | None = None
        self._kept: list[Picture] = []
        self._slots = {
            name: ipyleaflet.ImageOverlay(url=_BLANK, bounds=_NOWHERE, name=name, opacity=0.0)
            for name in ("colour", "top", "selection")
        }
        self._outline = ipyleaflet.Polygon(
            locations=[], color=ACCENT, weight=2, fill=False, opacity=0.9
        )
        self._others = ipyleaflet.GeoJSON(data=collection([]))
        self._points = ipyleaflet.GeoJSON(
            data=collection([]), point_style={"radius": 5, "weight": 2}
        )
        self._here = ipyleaflet.CircleMarker(
            location=(0.0, 0.0), radius=8, color="#000000", weight=2, fill=False, opacity=0.0
        )
        self._draw = ipyleaflet.DrawControl(
            rectangle={"shapeOptions": {"color": ACCENT, "weight": 2}},
            polygon={"shapeOptions": {"color": ACCENT, "weight": 2}},
            polyline={},
            circlemarker={},
            edit=False,
            remove=False,
        )
        self._draw.on_draw(self._drawn)
        self.widget = self._make_map()
        self._widgets = list(widgets_in(self.widget))  # the browser may exchange some later
        self.widget.on_interaction(self._interaction)
        self.pane = LocalLeaflet(self.widget, sizing_mode="stretch_both", margin=0)
        self.pane.prefix, self.pane.css = web.prefix, MAP_CSS
        watch = self.state.param.watch
        watch(self._show_place, ["place", "stack"])
        watch(self._show_others, ["opened", "place"])
        watch(self._show_colour, ["stack", "shown"])
        watch(self._show_top, ["fields", "top", "fade", "found", "instead"])
        watch(self._show_opacity, ["opacity", "top"])
        watch(self._show_selection, ["selection"])
        watch(self._show_points, ["classes", "marks", "examples", "searching"])
        watch(self._show_here, ["here"])
        watch(self._show_mode, ["mode", "tool"])

    def when_alive(self, call: Callable[[], None]) -> None:
        """Call once the browser has drawn the map (it then reports its bounds)."""

        def first(_: Any) -> None:
            self.widget.unobserve(first, "bounds")
            call()

        self.widget.observe(first, "bounds")
        self.widget.observe(self._resized, "pixel_bounds")
        self.widget.observe(self._moved, ["center", "zoom"])

    def _resized(self, _: Any) -> None:
        """Fit the place to another size of the map, unless the visitor looks elsewhere."""
        (left, top), (right, bottom) = self.widget.pixel_bounds
        wide, tall = right - left, bottom - top
        known = 100 < wide < 10_000 and 100 < tall < 10_000  # the browser has told its size
        if known and (wide, tall) != self._size:
            fitted = near((self.widget.center, self.widget.zoom), self._view_of_place())
            self._size = wide, tall
            if fitted:
                self._show_place()

    def _moved(self, _: Any) -> None:
        """Remember where the visitor looks, for the session that is kept."""
        place, (lat, lon) = self.state.place, self.widget.center
        if place is not None and abs(lat) <= 90:
            lon = (lon + 180) % 360 - 180
            zoom = min(max(float(self.widget.zoom), 0.0), 24.0)
            self.flow.keep.look(place.name, (round(lon, 6), round(lat, 6)), zoom)

    def close(self) -> None:
        """Let go of the widgets and the pictures."""
        detach(self.widget, *self._widgets)
        for picture in self._kept:
            self._web.overlays.drop(picture.token)

    def _make_map(self) -> ipyleaflet.Map:
        prefix = self._web.prefix
        layers: list[Any] = [
            ipyleaflet.TileLayer(
                url=f"{prefix}/tiles/{{z}}/{{x}}/{{y}}.png",
                attribution=basemap.CREDIT,
                max_zoom=basemap.MAX_ZOOM,
                name="Land and sea",
            )
        ]
        if self._web.tiles:
            layers.append(
                ipyleaflet.TileLayer(
                    url=self._web.tiles, attribution=self._web.credit, max_zoom=basemap.MAX_ZOOM
                )
            )
        return ipyleaflet.Map(
            center=(30.0, 10.0),
            zoom=2.0,
            zoom_snap=0.25,
            max_zoom=basemap.MAX_ZOOM,
            layers=(
                *layers, self._slots["colour"], self._slots["top"], self._slots["selection"],
                self._others, self._outline, self._points, self._here,
            ),
            controls=(
                ipyleaflet.ZoomControl(position="topleft"),
                self._draw,
                ipyleaflet.ScaleControl(position="bottomleft", imperial=False),
                ipyleaflet.AttributionControl(position="bottomright", prefix=""),
            ),
            zoom_control=False,
            attribution_control=False,
            scroll_wheel_zoom=True,
            double_click_zoom=False,
            box_zoom=False,  # Shift and a drag add to a selection
            layout={"height": "100%", "width": "100%"},
        )  # fmt: skip

    # ---------------------------------------------------------------------------------- showing

    def _view_of_place(self) -> tuple[tuple[float, float], float]:
        place, wanted = self.state.place, self.flow.keep.wanted
        if place is not None and wanted is not None and wanted[0] == place.name:
            return wanted[1][::-1], wanted[2]
        if self.state.stack is None and (place is None or place.region is None):
            return (30.0, 10.0), 2.0
        return fitting(extent_of(self.state), *self._size)

    def _show_place(self, *_: param.parameterized.Event) -> None:
        place = self.state.place
        if self.state.stack is None and (place is None or place.region is None):
            return  # where it lies is not known before its images are open
        # the browser rounds the middle to a pixel, which at the zoom of the world is many kilometres
        middle, self.widget.zoom = self._view_of_place()
        self.widget.center = middle
        self._outline.locations = corners_of(self.state)
        self._outline.color = self.flow.regions.colours().get(place.name if place else "", ACCENT)

    def _show_others(self, *_: param.parameterized.Event) -> None:
        """Outlines of the other places in use, each in its own colour."""
        self._others.data = collection(
            [
                _outlined(each.place.region, each.colour)
                for each in self.state.opened
                if each.place.region is not None and each.place != self.state.place
            ]
        )

    def _show_colour(self, *_: param.parameterized.Event) -> None:
        state = self.state
        if state.stack is None or not state.shown[0]:
            self._empty("colour")
            return
        sensor, number = state.shown
        place = state.place
        self.flow.run(
            "colour",
            "map",
            "Drawing the image",
            lambda _: self.flow.compute.picture(place, sensor, number),
            # centimetres look better smooth, ten metres honest
            lambda drawn: self._fill("colour", drawn, 1.0, crisp=sensor != "hr"),
        )

    def _show_top(self, *_: param.parameterized.Event) -> None:
        field = self.state.top_field
        if field is self._wanted:  # it is shown, or being drawn: another field came
            return
        self._wanted = field
        if field is None:
            self.flow.drop("top", "top")  # what is being drawn is of another layer
            self._empty("top")
            return
        within = self._ground()
        self.flow.run(
            "top",
            "top",
            "Drawing",
            lambda _: view.overlay(field, within=within),
            lambda drawn: self._fill("top", drawn, self.state.opacity),
        )

    def _ground(self) -> Bounds | None:
        """Where the place lies, beyond which its pictures are not drawn (m)."""
        stack, place = self.state.stack, self.state.place
        return None if stack is None else ground_of(stack, place.region if place else None)

    def _show_opacity(self, *_: param.parameterized.Event) -> None:
        if "top" in self._filled:
            self._slots["top"].opacity = self.state.opacity

    def _show_selection(self, *_: param.parameterized.Event) -> None:
        state = self.state
        if state.selection is None or state.features is None:
            self._empty("selection")
            return
        rest = view.mask(~state.selection, state.features)
        rest = rest.where(rest > 0).assign_attrs(rest.attrs)  # a veil over what is not selected
        self._fill("selection", view.overlay(rest, within=self._ground()), 0.75)

    def _show_points(self, *_: param.parameterized.Event) -> None:
        state = self.state
        if state.searching:
            drawn = [
                point((each.lon, each.lat), LIKE if each.like else UNLIKE)
                for each in state.examples
            ]
        else:
            drawn = marks_of(state.classes) if state.marks else []
        self._points.data = collection(drawn)

    def _show_here(self, *_: param.parameterized.Event) -> None:
        if self.state.here is None:
            self._here.opacity = 0.0
            return
        lon, lat = self.state.here
        self._here.location, self._here.opacity = (lat, lon), 1.0

    def _show_mode(self, *_: param.parameterized.Event) -> None:
        mode = self.state.mode
        drawing = mode in ("select", DRAWING_PLACE) or self.state.drawing_areas
        self.pane.css_classes = ["drawing"] if drawing else []
        # assigning a dict would make another widget and leave this one behind
        self.widget.default_style.cursor = _CURSOR[mode]

    def _fill(self, slot: str, drawn: view.Overlay, opacity: float, crisp: bool = True) -> None:
        picture = keep(drawn, self._web.overlays, crisp)
        self._filled.add(slot)
        self._kept.append(picture)
        while len(self._kept) > KEPT:  # the browser may still be fetching the one before
            self._web.overlays.drop(self._kept.pop(0).token)
        overlay = self._slots[slot]
        mark = "-veil" if slot == "selection" else ""
        overlay.bounds, overlay.url = picture.bounds, picture.url(self._web.prefix) + mark
        overlay.opacity = opacity

    def _empty(self, slot: str) -> None:
        self._filled.discard(slot)
        self._slots[slot].opacity, self._slots[slot].url = 0.0, _BLANK

    # ------------------------------------------------------------------------------------- hands

    def _middle(self) -> tuple[float, float]:
        lat, lon = self.widget.center
        return (float(lon) + 180) % 360 - 180, float(lat)

    def _interaction(self, **event: Any) -> None:
        if self.state.drawing_areas:
            return
        if event.get("type") == "click" and self.state.mode in ("inspect", "label"):
            lat, lon = event["coordinates"]
            self.flow.click(float(lon), float(lat))

    def _drawn(self, _: Any, action: str, geo_json: dict[str, Any]) -> None:
        if action != "created":
            return
        self._draw.clear()
        self.on_drawn(geo_json["geometry"])


def extent_of(state: State) -> tuple[tuple[float, float], tuple[float, float]]:
    """((south, west), (north, east)) of what is shown (degrees)."""
    if state.place is not None and state.place.region is not None:
        west, south, east, north = state.place.region.bounds
        return (south, west), (north, east)
    return outline_of(state.stack)


def corners_of(state: State) -> list[tuple[float, float]]:
    """Corners (lat, lon) of the outline of the place that is shown."""
    region = state.place.region if state.place is not None else None
    if region is not None and region.outline.geom_type == "Polygon":
        return [(lat, lon) for lon, lat, *_ in region.outline.exterior.coords]
    if region is None and state.stack is None:
        return []
    (south, west), (north, east) = extent_of(state)
    return [(south, west), (south, east), (north, east), (north, west)]


def fitting(
    bounds: tuple[tuple[float, float], tuple[float, float]], width: float, height: float
) -> tuple[tuple[float, float], float]:
    """Middle (lat, lon) and zoom at which bounds fill a map of so many pixels, in quarter steps."""
    (south, west), (north, east) = bounds

    def upward(lat: float) -> float:
        return math.asinh(math.tan(math.radians(lat))) / math.pi

    wide = max((east - west) / 360, 1e-9)
    tall = max((upward(north) - upward(south)) / 2, 1e-9)
    zoom = min(math.log2(width / 256 / wide), math.log2(height / 256 / tall))
    middle = math.degrees(math.atan(math.sinh(math.pi * (upward(south) + upward(north)) / 2)))
    return (middle, (west + east) / 2), max(1.0, min(19.0, math.floor(zoom * 4) / 4))


def near(view: tuple[Sequence[float], float], other: tuple[Sequence[float], float]) -> bool:
    """Whether two views, each a middle (lat, lon) and a zoom, show the same within a few pixels."""
    (here, zoom), (there, fitted) = view, other
    apart = max(abs(a - b) for a, b in zip(here, there, strict=True))
    return zoom == fitted and apart * 256 * 2**zoom / 360 < _FEW


def _outlined(region: Region, colour: str) -> dict[str, Any]:
    style = {"color": colour, "weight": 2, "fill": False, "opacity": 0.9}
    return {"type": "Feature", "properties": {"style": style},
            "geometry": region.to_geojson()["geometry"]}  # fmt: skip
