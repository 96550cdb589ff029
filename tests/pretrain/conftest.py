"""Places that a run of a few steps learns from."""

import pytest
from stacks import file_stack

from skysense.pretrain.prepare import prepare


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "places"
    series = file_stack(240, 200, dates={"s2": 6, "s1": 5})
    single = file_stack(160, 160, dates={"s2": 1, "s1": 1}, seed=1)
    prepare([series, single], folder)
    return folder
