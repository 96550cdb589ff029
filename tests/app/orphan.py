"""A server that is killed while its worker process works: prints the worker's process id."""

import sys
import threading

from app.worker import Worker
from tests.app import chores

worker = Worker()
begun = threading.Event()
threading.Thread(
    target=worker.call,
    args=(chores.deaf,),
    kwargs={"progress": lambda *_: begun.set()},
    daemon=True,
).start()
begun.wait(60)
sys.stdout.write(f"{worker.pid} {worker._child._folder}\n")
sys.stdout.flush()
threading.Event().wait(60)
