"""What lies where in the synthetic world: fields, forests, villages, roads, hedges and a river.

The world is a function of absolute UTM metres without end. Farmland is cut into parcels along the
estate's own direction, villages into lots; estates meet at roads, hedges or margins. Everything is
warped a little, so no line is quite straight.
"""

import itertools
from dataclasses import dataclass, fields

import numpy as np

from skysense.sources.synthetic_noise import mix, nodes_of, spread, unit
from skysense.sources.synthetic_plan import (
    BARE,
    CONIFER,
    DECIDUOUS,
    GARDEN,
    GRASS,
    HEDGE,
    MAIZE,
    NODES,
    ROAD,
    ROOF,
    TRACK,
    VERGE,
    WATER,
    WHEAT,
    YARD,
    Estates,
    World,
    estates,
    nearest_two,
    slow_fields,
)

_TILE = 160.0
"""Side of the pieces in which the ground is surveyed (m): their arrays stay in the cache."""


@dataclass(frozen=True)
class Land:
    """What was found on a grid; every array is (y, x)."""

    material: np.ndarray
    """uint8, an index of `MATERIALS`."""
    patch: np.ndarray
    """uint32, the same for all of one parcel, roof, stand or road section."""
    hills: np.ndarray
    """float32, 0..1, the same for all of one estate."""
    along: np.ndarray
    """float32, metres along the rows of the estate."""
    across: np.ndarray
    """float32, metres across the rows; on roofs the distance from the ridge."""
    edge: np.ndarray
    """float32, metres to the nearest border of the parcel; on water to the bank."""


def survey(world: World, xs: np.ndarray, ys: np.ndarray, tile: float = _TILE) -> Land:
    """Look what lies at a grid of points.

    Args:
        world: The world.
        xs: Columns' coordinates (m in the world's CRS), ascending.
        ys: Rows' coordinates (m), in either order.
        tile: Side of the pieces in which that is done (m); changes the speed only.
    """
    xs = np.asarray(xs, float) + world.origin[0]
    ys = np.asarray(ys, float) + world.origin[1]
    shape = (len(ys), len(xs))
    kinds = {"material": np.uint8, "patch": np.uint32}
    whole = Land(*(np.empty(shape, kinds.get(f.name, np.float32)) for f in fields(Land)))
    for rows in _pieces(ys, tile):
        for columns in _pieces(xs, tile):
            part = _survey_tile(world, xs[columns], ys[rows], tile)
            for each in fields(Land):
                getattr(whole, each.name)[rows, columns] = getattr(part, each.name)
    return whole


def _pieces(values: np.ndarray, tile: float) -> list[slice]:
    """Runs of coordinates that lie in the same tile."""
    cuts = [0, *(np.flatnonzero(np.diff(np.floor(values / tile))) + 1), len(values)]
    return [slice(a, b) for a, b in itertools.pairwise(cuts)]


def _survey_tile(world: World, xs: np.ndarray, ys: np.ndarray, tile: float) -> Land:
    nodes_x, nodes_y = nodes_of(xs, NODES), nodes_of(ys, NODES)
    slow = slow_fields(world, nodes_x, nodes_y)
    shift_x, shift_y, *river = (spread(f, nodes_x, nodes_y, xs, ys) for f in slow)
    # metres from the tile's corner fit single precision, metres from the equator do not
    corner_x, corner_y = np.floor(xs.min() / tile) * tile, np.floor(ys.min() / tile) * tile
    x = (xs - corner_x).astype(np.float32)[None, :] + shift_x
    y = (ys - corner_y).astype(np.float32)[:, None] + shift_y
    box = (float(x.min()), float(y.min()), float(x.max()), float(y.max()))
    est = estates(world, (corner_x, corner_y), box)
    first, second, border = nearest_two(est, x, y)
    dx, dy = x - est.x[first], y - est.y[first]
    cosine, sine = np.cos(est.angle)[first], np.sin(est.angle)[first]
    along, across = dx * cosine + dy * sine, dy * cosine - dx * sine
    key = est.key[first]
    canvas = _Canvas(along, across, key, est.hills[first])
    _paint_parcels(canvas, est, first)
    _paint_villages(canvas, est, first, border)
    _paint_farms(canvas, est, first)
    road = _paint_borders(canvas, est, first, second, border)
    _paint_river(canvas, road & _crosses(est, first, second, *river[2:]), *river[:2])
    return canvas.land()


class _Canvas:
    """The arrays of one tile while it is painted, later paint over earlier."""

    def __init__(
        self, along: np.ndarray, across: np.ndarray, key: np.ndarray, hills: np.ndarray
    ) -> None:
        self.along, self.across, self.key, self.hills = along, across, key, hills
        self.material = np.zeros(along.shape, np.uint8)
        self.patch = np.zeros(along.shape, np.uint32)
        self.edge = np.full(along.shape, 99.0, np.float32)
        self.ridge: list[tuple[np.ndarray, np.ndarray]] = []

    def put(
        self,
        where: np.ndarray,
        material: int,
        part: np.ndarray | int = 0,
        edge: np.ndarray | None = None,
    ) -> None:
        """Cover `where` with a material; `part` tells apart pieces of one estate."""
        if where.any():
            self.material[where] = material
            own = part[where] if isinstance(part, np.ndarray) else part
            self.patch[where] = mix(self.key[where], material, own)
            self.edge[where] = 99.0 if edge is None else edge[where]

    def land(self) -> Land:
        across = self.across
        for where, ridge in self.ridge:
            across = np.where(where & (self.material == ROOF), ridge, across)
        return Land(self.material, self.patch, self.hills, self.along, across, self.edge)


@dataclass(frozen=True)
class _Cut:
    """Lines cut into uneven pieces; the pieces of all lines have one running number."""

    index: np.ndarray
    """(y, x) number of the piece every pixel lies in."""
    low: np.ndarray
    """(y, x) metres from the low end of the piece."""
    length: np.ndarray
    """(y, x) length of the piece (m)."""
    key: np.ndarray
    """(piece,) hash."""
    owner: np.ndarray
    """(piece,) number of the line it was cut from."""


def _cut(
    key: np.ndarray,
    width: np.ndarray,
    line: np.ndarray,
    value: np.ndarray,
    salt: int,
    jitter: float = 0.6,
) -> _Cut:
    """Cut lines into pieces of `width` (m), whose ends are moved by up to `jitter` / 2 of it.

    Args:
        key: (line,) hash of every line.
        width: (line,) mean length of its pieces (m).
        line: (y, x) number of the line that every pixel lies on.
        value: (y, x) metres along it.
        salt: Makes this cut different from others.
        jitter: 0..1.
    """
    number = np.floor(value / width[line]).astype(np.int32)
    first = int(number.min()) - 1
    numbers = np.arange(first, int(number.max()) + 3)
    keys = mix(key[:, None], salt, numbers)
    starts = ((numbers + jitter * (unit(keys, 0) - np.float32(0.5))) * width[:, None]).astype("f4")
    flat = starts.ravel()
    index = line.astype(np.int32) * len(numbers) + (number - first)
    index = index - (value < flat[index])
    index = index + (value >= flat[index + 1])
    low = flat[index]
    owner = np.repeat(np.arange(len(key)), len(numbers))
    return _Cut(index, value - low, flat[index + 1] - low, keys.ravel(), owner)


def _paint_parcels(canvas: _Canvas, est: Estates, first: np.ndarray) -> None:
    """Fields and forest stands."""
    strip = _cut(est.key, est.width, first, canvas.across, 20)
    piece = _cut(strip.key, est.length[strip.owner], strip.index, canvas.along, 21)
    owner = strip.owner[piece.owner]
    draw = unit(piece.key, 22)
    crop = (draw[:, None] > est.mix[owner, :3]).sum(1)
    field = np.array((GRASS, MAIZE, WHEAT, BARE), np.uint8)[crop]
    stand = np.where(draw < est.conifers[owner], CONIFER, DECIDUOUS).astype(np.uint8)
    kind = np.where(est.wood[owner], stand, field)
    canvas.material = kind[piece.index]
    canvas.patch = mix(piece.key, kind)[piece.index]
    side = np.minimum(strip.low, strip.length - strip.low)
    canvas.edge = np.minimum(side, np.minimum(piece.low, piece.length - piece.low))
    # between two fields: a grassy margin; in the fens most strips end in a ditch
    tilled = ~est.wood[first]
    canvas.put(tilled & (canvas.edge < 0.9), VERGE)
    wet = (unit(est.key, 23) > 0.35 + est.hills) & ~est.wood
    canvas.put(wet[first] & (side < 0.8), WATER)


def _paint_villages(canvas: _Canvas, est: Estates, first: np.ndarray, border: np.ndarray) -> None:
    """Streets, lots, houses with ridges, sheds and gardens."""
    here = est.village[first]
    if not here.any():
        return
    row = _cut(est.key, np.full(len(est.key), 66.0), first, canvas.across, 30, jitter=0.2)
    block = _cut(est.key, np.full(len(est.key), 150.0), first, canvas.along, 31, jitter=0.3)
    street = np.minimum(
        np.minimum(row.low, row.length - row.low), np.minimum(block.low, block.length - block.low)
    )
    side = row.low > row.length / 2
    back = np.where(side, row.length - row.low, row.low)  # metres from the street the lot opens to
    rows = mix(row.key[:, None], [0, 1]).ravel()
    lot = _cut(rows, np.full(len(rows), 21.0), 2 * row.index + side, canvas.along, 32, jitter=0.5)
    part, within, width = lot.key[lot.index], lot.low, lot.length

    def drawn(salt: int) -> np.ndarray:
        return unit(lot.key, salt)[lot.index]

    canvas.put(here, GARDEN, part, np.minimum(within, width - within))
    canvas.put(here & (back < 9.0) & (within < 5.5) & (drawn(39) < 0.4), YARD, part)
    setback = 5.5 + 5 * drawn(33)
    depth = 8.0 + 4 * drawn(34)
    gap = 1.5 + 3 * drawn(35)
    house = here & (back > setback) & (back < setback + depth)
    house &= (within > gap) & (within < width - gap) & (drawn(36) < 0.93)
    canvas.put(house, ROOF, part)
    ridge = np.where(drawn(37) < 0.3, within - width / 2, back - setback - depth / 2)
    shed = here & (back > 25) & (back < 29.5) & (within > 2) & (within < 7) & (drawn(38) < 0.5)
    canvas.put(shed, ROOF, part ^ np.uint32(1))
    canvas.ridge += [(house, ridge), (shed, back - 27.2)]
    canvas.put(here & (border < 8.0), GARDEN, 3)
    canvas.put(here & (street < 4.6), YARD, 1)
    canvas.put(here & (street < 3.2), ROAD)


def _paint_farms(canvas: _Canvas, est: Estates, first: np.ndarray) -> None:
    """A farmyard with a house and two barns in some estates."""
    here = est.farm[first]
    if not here.any():
        return
    x = canvas.along - 90 * (unit(canvas.key, 40) - np.float32(0.5))
    y = canvas.across - 90 * (unit(canvas.key, 41) - np.float32(0.5))
    canvas.put(here & (abs(x) < 42) & (abs(y) < 34), GRASS, 7, np.minimum(42 - abs(x), 34 - abs(y)))
    belt = here & (abs(x) < 42) & (y > 27) & (y < 34)
    canvas.put(belt, HEDGE, 7)
    canvas.put(here & (abs(x) < 31) & (y > -24) & (y < 20), YARD, 7)
    for number, (left, right, low, high) in enumerate(
        ((-28, -12, -20, 16), (-6, 26, -20, -7), (4, 17, 4, 15))
    ):
        roof = here & (x > left) & (x < right) & (y > low) & (y < high)
        canvas.put(roof, ROOF, 8 + number)
        tall = high - low > right - left
        ridge = x - (left + right) / 2 if tall else y - (low + high) / 2
        canvas.ridge.append((roof, ridge.astype(np.float32)))


def _paint_borders(
    canvas: _Canvas, est: Estates, first: np.ndarray, second: np.ndarray, border: np.ndarray
) -> np.ndarray:
    """Roads, hedges and tracks where two estates meet; returns where the roads are."""
    low, high = np.minimum(est.key[:, None], est.key[None]), np.maximum(est.key[:, None], est.key)
    pair = mix(low, high)
    draw = unit(pair, 50)
    village = est.village[:, None] | est.village[None]
    wooded = est.wood[:, None] & est.wood[None]
    road = (draw < np.where(village, 0.75, 0.34)) & ~wooded
    hedge = (draw >= 0.34) & (draw < 0.72) & ~village & ~wooded
    track = wooded & (draw < 0.5)
    lined = road & (unit(pair, 51) < 0.35)
    at_road, at_hedge, at_track, at_lined = (f[first, second] for f in (road, hedge, track, lined))
    canvas.put(at_track & (border < 2.0), TRACK)
    ragged = 1.2 * np.sin(canvas.along * 0.55) + np.sin(canvas.along * 0.23 + 1)
    canvas.put(at_hedge & (border < 5.5), VERGE, 2)
    canvas.put(at_hedge & (border < 3.4 + 0.7 * ragged), HEDGE)
    canvas.put(at_road & (border < 5.0), VERGE, 3)
    canvas.put(at_lined & (border > 4.6) & (border < 9.5 + ragged) & (ragged > -1.1), HEDGE, 3)
    paved = at_road & (border < 2.8)
    canvas.put(paved, ROAD, 0, 2.8 - border)
    canvas.put(~(at_road | at_hedge | at_track | wooded[first, second]) & (border < 1.6), VERGE, 4)
    return paved


def _crosses(
    est: Estates, first: np.ndarray, second: np.ndarray, east: np.ndarray, north: np.ndarray
) -> np.ndarray:
    """Whether a border between estates runs across the river, and not along it."""
    x, y = est.x[:, None] - est.x[None], est.y[:, None] - est.y[None]
    length = np.maximum(np.hypot(x, y), 1.0)
    x, y = (x / length).astype(np.float32), (y / length).astype(np.float32)
    return abs(x[first, second] * east + y[first, second] * north) < 0.6


def _paint_river(canvas: _Canvas, bridge: np.ndarray, river: np.ndarray, width: np.ndarray) -> None:
    """Water, and a green bank with some trees; roads that run across it do so on bridges."""
    bank = abs(river) - width
    dry = canvas.material != ROAD
    canvas.put(dry & (bank < 11), GRASS, 9, np.maximum(11 - bank, 0))
    clump = np.sin(canvas.along * 0.11) + np.sin(canvas.across * 0.083 + 2)
    canvas.put(dry & (bank > 1.5) & (bank < 8) & (clump > 0.75), HEDGE, 9)
    canvas.put(~bridge & (bank < 0), WATER, 1, -bank)
