"""The window lattice: cores tile, places keep their window, edges stay inside."""

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from skysense.errors import StackError
from skysense.sensors import TOKEN, WINDOW
from skysense.windows import HALO, SMALLEST, Lattice, cover, plan_windows

UTM = "EPSG:32631"
quick = settings(deadline=None, max_examples=150)

extents = st.one_of(
    st.integers(1, 700).map(lambda n: n * 10.0),
    st.integers(1, 20_000).map(lambda n: n * 0.3125),
    st.floats(5, 6000),
)
corners = st.floats(-1e6, 9e6)


@st.composite
def files(draw):
    return Lattice(UTM, draw(corners), draw(corners), draw(extents), draw(extents))


def overlap(a, b):
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def owner(windows, x, y):
    """The window whose core holds a place."""
    found = [w for w in windows if w.core[0] <= x < w.core[2] and w.core[1] < y <= w.core[3]]
    assert len(found) == 1
    return found[0]


@quick
@given(files())
@example(Lattice(UTM, 0, 0, 640.0, 640.0))
@example(Lattice(UTM, 0, 0, 640.3125, 1160.0))
@example(Lattice(UTM, 0, 0, 5.0, 1120.0))
def test_cores_of_a_file_tile_it_without_gap_or_overlap(lattice):
    cores = [w.core for w in plan_windows(lattice, lattice.bounds)]
    assert sum(area(c) for c in cores) == pytest.approx(area(lattice.bounds), rel=1e-6)
    for i, core in enumerate(cores):
        assert overlap(core, lattice.bounds) == pytest.approx(area(core), rel=1e-6)
        assert sum(overlap(core, other) for other in cores[:i]) < 1e-3


@quick
@given(files())
def test_every_core_lies_in_its_window(lattice):
    for w in plan_windows(lattice, lattice.bounds):
        assert w.bounds[0] <= w.core[0] + 1e-6
        assert w.bounds[1] <= w.core[1] + 1e-6
        assert w.bounds[2] >= w.core[2] - 1e-6
        assert w.bounds[3] >= w.core[3] - 1e-6


@quick
@given(files())
def test_inside_a_file_every_core_keeps_its_halo(lattice):
    left, bottom, right, top = lattice.bounds
    for w in plan_windows(lattice, lattice.bounds):
        for side, edge in ((0, left), (1, bottom), (2, right), (3, top)):
            rim = abs(w.core[side] - w.bounds[side])
            assert rim >= HALO - 1e-6 or abs(w.core[side] - edge) < 1e-6


@quick
@given(files())
def test_windows_of_a_file_start_at_whole_tokens_from_its_corner(lattice):
    for w in plan_windows(lattice, lattice.bounds):
        for offset in (w.bounds[0] - lattice.x0, lattice.y0 - w.bounds[3]):
            assert abs(offset / TOKEN - round(offset / TOKEN)) < 1e-6


@quick
@given(files())
def test_windows_of_large_files_have_one_size_and_of_small_ones_a_multiple_of_80_m(lattice):
    for w in plan_windows(lattice, lattice.bounds):
        sides = (w.bounds[2] - w.bounds[0], w.bounds[3] - w.bounds[1])
        for side, extent in zip(sides, (lattice.width, lattice.height), strict=True):
            if extent > WINDOW:
                assert side == pytest.approx(WINDOW)
            else:
                assert extent - 1e-6 <= side < extent + SMALLEST
                assert abs(side / SMALLEST - round(side / SMALLEST)) < 1e-6


@quick
@given(files())
def test_windows_at_a_files_edge_are_shifted_inward(lattice):
    left, bottom, right, top = lattice.bounds
    seen = cover(lattice, lattice.bounds)
    assert seen[0] == pytest.approx(left)
    assert seen[3] == pytest.approx(top)
    # at the far edges less than one token sticks out (less than 80 m for files under a window)
    slack_x = TOKEN if lattice.width > WINDOW else SMALLEST
    slack_y = TOKEN if lattice.height > WINDOW else SMALLEST
    assert right - 1e-6 <= seen[2] < right + slack_x
    assert bottom - slack_y < seen[1] <= bottom + 1e-6


def test_the_plan_of_a_file_of_one_kilometre_is_known():
    windows = plan_windows(Lattice(UTM, 0.0, 1000.0, 1000.0, 640.0), (0.0, 360.0, 1000.0, 1000.0))
    assert [w.bounds for w in windows] == [
        (0.0, 360.0, 640.0, 1000.0),
        (360.0, 360.0, 1000.0, 1000.0),
    ]
    assert [w.core for w in windows] == [
        (0.0, 360.0, 480.0, 1000.0),
        (480.0, 360.0, 1000.0, 1000.0),
    ]


@quick
@given(corners, corners, st.floats(1, 4000), st.floats(1, 4000))
def test_windows_of_a_catalogue_lie_on_absolute_multiples(x, y, width, height):
    for w in plan_windows(Lattice(UTM), (x, y, x + width, y + height)):
        assert w.shape == (64, 64)
        for side in (0, 1):
            assert w.core[side] % 480 == 0
            assert w.core[side] - w.bounds[side] == HALO
            assert w.bounds[side + 2] - w.core[side + 2] == HALO


@quick
@given(corners, corners, st.floats(1, 3000), st.floats(1, 3000))
def test_cores_of_a_catalogue_cover_the_bounds_once(x, y, width, height):
    bounds = (x, y, x + width, y + height)
    cores = [w.core for w in plan_windows(Lattice(UTM), bounds)]
    assert len(set(cores)) == len(cores)
    assert sum(overlap(c, bounds) for c in cores) == pytest.approx(area(bounds), rel=1e-4)
    assert all(overlap(c, bounds) > 0 for c in cores)


@quick
@given(st.one_of(files(), st.just(Lattice(UTM))), st.floats(0.02, 0.98), st.floats(0.02, 0.98),
       st.floats(0.5, 900), st.floats(0.5, 900), st.floats(0.5, 900))  # fmt: skip
def test_a_place_falls_in_the_same_window_whatever_rectangle_is_drawn(lattice, u, v, a, b, c):
    left, bottom, right, top = lattice.bounds if lattice.bounded else (4e5, 5e6, 4.1e5, 5.01e6)
    x, y = left + u * (right - left), bottom + v * (top - bottom)
    every = plan_windows(lattice, (left, bottom, right, top))
    home = owner(every, x, y)
    gap = min(x - home.core[0], home.core[2] - x, y - home.core[1], home.core[3] - y)
    assume(gap > 1e-3)
    for drawn in ((x - a, y - b, x + c, y + a), (x - 0.4, y - 0.4, x + 0.4, y + 0.4)):
        assert owner(plan_windows(lattice, drawn), x, y) == home


@quick
@given(files())
def test_a_lattice_survives_being_stored(lattice):
    assert Lattice.from_attrs(lattice.attrs()) == lattice


def test_attributes_without_a_lattice_are_refused():
    with pytest.raises(StackError, match="lattice_x0"):
        Lattice.from_attrs({"lattice_crs": UTM})


def test_bounds_outside_a_file_have_no_windows():
    lattice = Lattice(UTM, 0.0, 1000.0, 1000.0, 1000.0)
    assert plan_windows(lattice, (2000.0, 0.0, 2500.0, 500.0)) == []
    with pytest.raises(StackError, match="outside"):
        cover(lattice, (2000.0, 0.0, 2500.0, 500.0))
