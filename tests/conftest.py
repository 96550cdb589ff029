from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real places and reference tensors kept beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the folder `shared` with real imagery is not beside this checkout")
    return SHARED
