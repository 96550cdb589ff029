import io
import math

import numpy as np
import pytest
from blobs import on_ground
from PIL import Image
from pyproj import Transformer

from skysense import view
from skysense.analysis import pca
from skysense.analysis.places import cell_at, place_of
from skysense.errors import AnalysisError
from skysense.view.hues import PALETTE, rgb_of


def picture(overlay):
    return np.array(Image.open(io.BytesIO(overlay.png)).convert("RGBA"))


def pixel_at(overlay, lon, lat):
    """The colour that a web map shows at a place: linear in EPSG:3857 between the corners."""
    (south, west), (north, east) = overlay.bounds
    forth = Transformer.from_crs("EPSG:4326", "EPSG:3857", always_xy=True).transform
    (left, bottom), (right, top) = forth(west, south), forth(east, north)
    x, y = forth(lon, lat)
    image = picture(overlay)
    row = (top - y) / (top - bottom) * len(image)
    column = (x - left) / (right - left) * image.shape[1]
    return image[math.floor(row), math.floor(column)]


@pytest.fixture
def field(truth):
    return on_ground(truth.astype(float), kind="categorical", categories=list("abcd"))


def test_every_place_shows_the_colour_of_its_cell(field, truth):
    drawn = view.overlay(field)
    rng = np.random.default_rng(0)
    for row, column in rng.integers(0, 96, (60, 2)):
        lon, lat = place_of(field, [row], [column])[0]
        expected = (*rgb_of(PALETTE[truth[row, column]]), 255)
        assert tuple(pixel_at(drawn, lon, lat)) == expected


def test_a_place_beside_the_grid_is_transparent(truth):
    # far from the zone's middle the grid is turned, so the corners of the picture are empty
    turned = on_ground(
        truth.astype(float), left=760_000.0, kind="categorical", categories=["a"] * 4
    )
    drawn = view.overlay(turned)
    (south, west), _ = drawn.bounds
    assert cell_at(turned, west + 1e-6, south + 1e-6) is None
    assert pixel_at(drawn, west + 1e-6, south + 1e-6)[3] == 0
    assert (picture(drawn)[..., 3] == 255).mean() > 0.9


def test_bounds_are_south_west_then_north_east(field):
    (south, west), (north, east) = view.overlay(field).bounds
    assert 50 < south < north < 51
    assert 2 < west < east < 4


def test_unseen_cells_are_transparent(field):
    field[20:40, 20:40] = np.nan
    lon, lat = place_of(field, [30], [30])[0]
    assert pixel_at(view.overlay(field), lon, lat)[3] == 0


def test_a_coarse_cell_is_a_block_around_its_place():
    # 40 m cells: the block reaches 20 m to every side of the coordinate
    field = on_ground(np.eye(8), resolution=40.0, kind="categorical", categories=["a", "b"])
    drawn = view.overlay(field)
    x, y = float(field.x[3]), float(field.y[3])
    back = Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True).transform
    for dx, dy in ((-18, -18), (18, 18), (0, 0)):
        assert tuple(pixel_at(drawn, *back(x + dx, y + dy))[:3]) == rgb_of(PALETTE[1])
    assert tuple(pixel_at(drawn, *back(x + 22, y))[:3]) == rgb_of(PALETTE[0])


@pytest.mark.parametrize("left", [500_000.0, 760_000.0])  # where the grid is turned, too
def test_blocks_that_reach_over_the_edge_of_a_place_are_cut_there(left):
    # sampled cells are the third of four: a block of 40 m reaches 5 m to the right of its ground
    field = on_ground(
        np.zeros((8, 8)), left=left, resolution=40.0, kind="categorical", categories=["a"]
    )
    box = field.odc.geobox.boundingbox
    place = (box.left - 5, box.bottom + 5, box.right - 5, box.top + 5)
    back = Transformer.from_crs("EPSG:32631", "EPSG:4326", always_xy=True).transform
    middle, alpha = (box.bottom + box.top) / 2, {}
    for name, drawn in (
        ("whole", view.overlay(field)), ("cut", view.overlay(field, within=place)),
    ):  # fmt: skip
        _, (_, east) = drawn.bounds
        alpha[name] = [
            lon < east and pixel_at(drawn, lon, lat)[3] == 255
            for lon, lat in (back(box.right - 7, middle), back(box.right - 3, middle))
        ]
    assert alpha == {"whole": [True, True], "cut": [True, False]}


def test_a_field_beside_its_place_is_refused(field):
    with pytest.raises(AnalysisError, match="lies beside"):
        view.overlay(field, within=(0.0, 0.0, 10.0, 10.0))


def test_colour_pictures_and_probabilities_have_the_same_place(features, field):
    assert view.overlay(pca(features)).bounds == view.overlay(field).bounds


def test_a_colour_picture_is_drawn_in_its_colours(features):
    shown = pca(features)
    lon, lat = place_of(shown, [50], [60])[0]
    expected = view.colours(shown)[50, 60]
    np.testing.assert_array_equal(pixel_at(view.overlay(shown), lon, lat), expected)


def test_large_fields_are_bounded():
    field = on_ground(np.zeros((1500, 700)), kind="continuous")
    assert max(view.overlay(field, limit=300).shape) == 300
    assert max(view.overlay(field).shape) == 1024


def test_the_png_is_small_and_indexed_where_there_are_few_colours(field):
    drawn = view.overlay(field)
    assert Image.open(io.BytesIO(drawn.png)).mode == "P"
    assert len(drawn.png) < 30_000
    assert drawn.url.startswith("data:image/png;base64,iVBOR")


def test_a_field_without_georeference_is_refused(field):
    bare = field.drop_vars("spatial_ref")
    bare.encoding = {}
    with pytest.raises(AnalysisError, match="no georeference"):
        view.overlay(bare)


@pytest.mark.parametrize("limit", [0, 100_000])
def test_limits_that_make_no_picture_are_refused(field, limit):
    with pytest.raises(AnalysisError, match="from 16 to 4,096"):
        view.overlay(field, limit)
