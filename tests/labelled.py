"""A labelled place made for tests: fields of four classes under noise, Sentinel-2 and -1."""

import numpy as np
import odc.geo.xr
import torch
import xarray as xr
from stacks import CRS, file_stack

from skysense.evaluation.outputs import Output
from skysense.evaluation.tasks import Task, images_of_stack

CLASSES = ("water", "field", "wood", "town")
SIDE = 36


def fields():
    """(y, x) class of each 10 m cell."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return (x // 5 * 7 + y // 6 * 3 + (x // 5) * (y // 6)) % 4


def place():
    """A stack whose first blue value is the class / 10, and its labels."""
    truth = fields()

    def edit(sensor, data, valid):
        if sensor == "s2":
            data[:, 0] = truth / 10
            valid[0] = True
        return data, valid

    stack = file_stack(SIDE * 10, SIDE * 10, ("s2", "s1"), edit=edit)
    group = stack["s2"].to_dataset()
    labels = xr.DataArray(
        truth.astype("f4"),
        {"y": group["y"], "x": group["x"]},
        ("y", "x"),
        attrs={"kind": "categorical", "categories": list(CLASSES)},
    )
    return stack, odc.geo.xr.assign_crs(labels, CRS)


def task(name="made up: fields"):
    stack, labels = place()
    images = images_of_stack(stack, {"fields": labels})
    return Task(name, "made-up", "pixels", "fields", lambda: images, ("s2", "s1"))


def oracle():
    """An encoder that reads the truth out of the pixels: one-hot classes."""

    def look(batch, step, first):
        blue = batch.sensors["s2"].pixels[:, 0, 0, first::step, first::step]
        return (
            torch.nn.functional.one_hot((blue * 10).round().long(), 4).permute(0, 3, 1, 2).float()
        )

    return Output("oracle", ("s2",), 4, look, weights="oracle")
