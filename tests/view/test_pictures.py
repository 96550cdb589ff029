import holoviews as hv
import numpy as np
import pytest
from blobs import blobs, fields
from small_stack import stack

from skysense import view
from skysense.analysis import cluster, pca, segment, similarity
from skysense.analysis.places import place_of
from skysense.errors import AnalysisError
from skysense.view.hues import PALETTE


def drawn(element):
    return hv.renderer("bokeh").get_plot(element)


@pytest.fixture(scope="module")
def groups(features):
    return cluster(features, 4)


def test_a_map_has_the_colours_of_the_palette_and_names_beside_it(groups):
    plot = drawn(view.field(groups))
    assert plot.handles["color_mapper"].palette == list(PALETTE[:4])
    bar = plot.handles["plot"].right[0]
    assert bar.major_label_overrides == {i: f"group {i + 1}" for i in range(4)}


def test_values_under_the_pointer_are_those_of_the_field(groups):
    image = view.field(groups)
    x, y = float(groups.x[17]), float(groups.y[80])
    assert image[x, y] == float(groups[80, 17])


def test_the_title_says_where_it_comes_from_and_what_is_not_real(groups):
    text = drawn(view.field(groups)).handles["plot"].title.text.replace("\n", " ")
    assert text.startswith("groups (k-means) UNTRAINED random(seed=0) · SYNTHETIC scene")


def test_a_colour_picture_is_an_rgb_of_the_same_colours(features):
    shown = pca(features)
    element = view.field(shown)
    assert isinstance(element, hv.RGB)
    red = element.dimension_values("R", flat=False)
    np.testing.assert_array_equal(np.sort(red, None), np.sort(view.colours(shown)[..., 0], None))


def test_probabilities_are_drawn_as_classes(features, truth):
    labels = {str(i): place_of(features, *np.argwhere(truth == i)[:1].T) for i in range(3)}
    assert isinstance(view.field(segment(features, labels)), hv.RGB)


def test_large_fields_are_thinned_and_say_so(monkeypatch, groups):
    monkeypatch.setattr("skysense.view.pictures.MOST_PIXELS", 50)
    element = view.field(groups)
    assert element.dimension_values(2, flat=False).shape == (48, 48)
    assert "every 2th cell is shown" in drawn(element).handles["plot"].title.text


def test_maps_of_one_place_pan_together_with_its_satellite_image(features, groups):
    layout = drawn(view.maps(groups, pca(features), similarity(features, np.ones(16))))
    ranges = {id(sub.subplots["main"].handles["x_range"]) for sub in layout.subplots.values()}
    assert len(ranges) == 1


def test_maps_of_places_far_apart_keep_their_own_axes(groups):
    far = cluster(blobs(fields(), left=560_000.0), 4)
    layout = drawn(view.maps(groups, far))
    starts = sorted(s.subplots["main"].handles["x_range"].start for s in layout.subplots.values())
    assert starts == pytest.approx([500_000, 560_000], abs=500)


def test_a_sensor_of_a_stack_is_shown_in_its_colours():
    element = view.maps(stack()["s2"])[0]
    assert isinstance(element, hv.RGB)
    assert isinstance(view.true_colour(stack()["s2"], 0), hv.RGB)


def test_no_map_at_all_is_refused():
    with pytest.raises(AnalysisError, match="no field"):
        view.maps()


def test_features_themselves_are_no_map(features):
    with pytest.raises(AnalysisError, match="no colours"):
        view.maps(features)
