import subprocess
import sys

import matplotlib.text
import numpy as np
import pytest
from blobs import blobs, fields
from PIL import Image
from small_stack import stack

from skysense import view
from skysense.analysis import (
    agreement,
    assign,
    classes,
    cluster,
    compare,
    fit_prototypes,
    pca,
    segment,
    similarity,
    usage,
)
from skysense.analysis.places import place_of
from skysense.dates import acquisitions
from skysense.errors import AnalysisError


def texts(figure):
    """Everything a reader can read."""
    return "\n".join(t.get_text() for t in figure.findobj(matplotlib.text.Text))


@pytest.fixture(scope="module")
def groups(features):
    return cluster(features, 4)


def test_maps_show_the_colours_of_the_field(groups):
    figure = view.figure(groups)
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), view.colours(groups))


def test_what_is_not_real_is_written_on_every_map(groups, features):
    figure = view.figure(groups, pca(features))
    for pane in figure.axes:
        assert "UNTRAINED random(seed=0) · SYNTHETIC scene" in [t.get_text() for t in pane.texts]
    assert "2 Sentinel-2 dates · without nir08" in texts(figure)


def test_the_key_names_the_categories(groups):
    assert "group 3" in texts(view.figure(groups))


def test_many_categories_are_counted_instead(features):
    found = assign(features, fit_prototypes(features, 16))
    assert "16 categories" in texts(view.figure(found))


def test_a_figure_holds_maps_and_charts_of_every_kind(features, truth, groups, tmp_path):
    places = {"here": features, "there": blobs(fields(seed=4), seed=3)}
    bank = fit_prototypes(places, 8)
    labels = {str(i): place_of(features, *np.argwhere(truth == i)[:2].T) for i in range(4)}
    found = compare(places, bank, bootstrap=20)
    probabilities = segment(features, labels)
    tree = stack()
    figure = view.figure(
        tree["s2"], tree["s1"], groups, probabilities, similarity(features, np.ones(16)),
        pca(features, 2), (pca(features, 2), groups), usage(assign(features, bank)), found.usage,
        found, agreement(classes(probabilities), groups), acquisitions(tree), columns=4,
    )  # fmt: skip
    path = tmp_path / "figure.png"
    figure.savefig(path)
    assert len(figure.axes) >= 12
    assert min(Image.open(path).size) > 800


def test_titles_can_be_given(groups):
    assert "my groups" in texts(view.figure(groups, titles=["my groups"]))


def test_titles_must_be_as_many_as_pictures(groups):
    with pytest.raises(AnalysisError, match="2 titles for 1"):
        view.figure(groups, titles=["a", "b"])


@pytest.mark.parametrize("wrong", [(), (3,), (["a"],), ((1, 2),)])
def test_what_has_no_picture_is_refused(wrong):
    with pytest.raises(AnalysisError):
        view.figure(*wrong)


def test_colours_and_overlays_need_neither_holoviews_nor_matplotlib():
    code = (
        "import sys; from skysense import view; view.overlay; view.colours; view.caption; "
        "assert not {'holoviews', 'bokeh', 'matplotlib', 'panel', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_picture_is_refused_with_those_there_are():
    with pytest.raises(AttributeError, match=r"no 'hologram'.*overlay"):
        view.hologram  # noqa: B018
