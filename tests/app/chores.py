"""Tasks for the worker process in tests; it imports this module by its name."""

import os
import signal
import sys
import threading

import numpy as np

from app import encoding
from app.worker_process import Room
from skysense.errors import AnalysisError, Cancelled


def who(room):
    return os.getpid(), os.nice(0), "torch" in sys.modules


def squares(room, size):
    return np.arange(size, dtype="f8") ** 2


def half_and_whole(room):
    room.progress(1, 2, "1 of 2")
    room.partial(np.ones(3))
    return "whole"


def until_cancelled(room):
    room.progress(0, 0, "begun")
    room.cancel.wait(60)
    raise Cancelled


def deaf(room):
    room.progress(0, 0, "begun")
    threading.Event().wait(60)


def deaf_after_a_part(room, *given, **named):
    features = encoding.embed_stack(Room(), *given, **named)
    features.attrs["unfinished"] = 0.5
    room.partial(encoding.Partial(features, None))
    deaf(room)


def small(room):
    room.progress(0, 0, "begun")
    room.cancel.wait(3)
    return "done"


def refuse(room):
    raise AnalysisError("There is too little to cluster.")


def divide(room):
    return 1 / 0


def run_out_of_memory(room):
    raise MemoryError


def leave(room):
    raise SystemExit(3)


def crash(room, *given, **named):
    os.kill(os.getpid(), signal.SIGKILL)


def unsendable(room):
    return threading.Lock()


def say(room):
    os.write(1, b"what a library prints\n")
    return "said"
