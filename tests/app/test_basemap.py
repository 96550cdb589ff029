import io

import numpy as np
import pytest
from PIL import Image

from app import basemap


def is_sea(lon, lat):
    mask = basemap.land_mask()
    return mask.sea(np.array([round((90 - lat) * 120)]), np.array([round((lon + 180) * 120)]))[0, 0]


@pytest.mark.parametrize(
    ("lon", "lat", "sea"),
    [
        (3.02, 50.81, False),  # Flanders
        (2.5, 51.6, True),  # the North Sea
        (-70.0, -60.0, True),  # Drake Passage
        (134.0, -25.0, False),  # Australia
        (-30.0, 40.0, True),  # the Atlantic
        (179.9, 71.2, False),  # Wrangel Island, beside the antimeridian
    ],
)
def test_known_places_are_land_or_sea(lon, lat, sea):
    assert is_sea(lon, lat) == sea


def pixels(tile):
    return np.asarray(Image.open(io.BytesIO(tile)).convert("RGB")).astype(int)


def test_a_tile_is_256_pixels_with_bluish_sea_and_pale_land():
    world = pixels(basemap.tile(0, 0, 0))
    assert world.shape == (256, 256, 3)
    pacific, africa = world[120, 20], world[120, 145]
    assert pacific[2] > pacific[0] + 10
    assert africa[0] > africa[2]


def test_neighbouring_tiles_fit_together():
    left, right = pixels(basemap.tile(5, 16, 10)), pixels(basemap.tile(5, 17, 10))
    seam = np.abs(left[:, -1] - right[:, 0]).max(1)
    inside = np.abs(left[:, -1] - left[:, -2]).max(1)
    assert (seam > 20).mean() < (inside > 20).mean() + 0.1


def test_columns_wrap_round_the_earth():
    assert basemap.tile(3, -1, 2) == basemap.tile(3, 7, 2)


@pytest.mark.parametrize("place", [(0, 0, 1), (21, 0, 0), (3, 0, -1)])
def test_a_tile_outside_the_map_is_refused(place):
    with pytest.raises(ValueError, match="no tile"):
        basemap.tile(*place)
