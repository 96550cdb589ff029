"""Fixtures of the model tests."""

import dataclasses

import pytest
import torch
from mini import make_inputs, make_model

from skysense.model.config import PrototypeConfig


@pytest.fixture
def model():
    """The mini model of V1 in float64."""
    return make_model()


@pytest.fixture
def inputs():
    """Two windows of 80 m × 80 m, see `mini.make_inputs`."""
    return make_inputs()


@pytest.fixture
def placed(model):
    """The same with banks for three cells, of which cell 1 was trained."""
    prototypes = PrototypeConfig(context=True, cells=3, count=5)
    model = make_model(dataclasses.replace(model.config, prototypes=prototypes))
    model.prototypes.bank = model.prototypes.bank.double()
    model.prototypes.bank.normal_(generator=torch.Generator().manual_seed(4))
    model.prototypes.trained[1] = True
    return model
