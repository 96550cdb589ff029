"""Does the dashboard hold up: many visits, one after the other, and several at once.

`python -m benchmarks.bench_sessions [--live 5] [--soak 200] [--minutes 2] [--history FILE]`

Starts the dashboard with its demo in a process of its own and visits it without a browser (see
`benchmarks.visiting`): what is timed is the server's part of each interaction.

- live: visitors click the map and turn over its layers for some minutes, while one more lets
  networks encode all the time. Asked for: 95 % of the answers
  within 0.5 s, and no failure.
- soak: visitors come, click, choose and leave, one after the other. Asked for: no widget and no
  picture left, and at most 20 MB more memory after the first tenth, which fills caches.

Exits with 1 if one of these does not hold. Not part of `make bench`, which compares speeds by
ratios within seconds; this takes minutes, and its figures mean something on an idle machine only.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from tornado.httpclient import AsyncHTTPClient, HTTPClientError

from app.places import demos
from app.words import degrees
from benchmarks.visiting import Visitor

SERVE = "from app.main import serve; serve(port=0, linger=2.0)"
MOST_SECONDS, MOST_MB = 0.5, 20.0
THINKING = (0.5, 2.0)
"""What a visitor waits between two interactions (s)."""

LAYERS = ("Features", "Prototypes", "Clusters", "True colour")
NETWORKS = (
    "SkySense base, untrained",
    "SkySense V2 tiny",
    "SkySense tiny, untrained",
    "SkySense V2 tiny, untrained",
)
SPACINGS = ("40 m", "20 m", "10 m")
"""What is encoded meanwhile; all of it takes longer than the visits do."""
FAILURES = (TimeoutError, ConnectionError, HTTPClientError, KeyError)

Act = Callable[..., Awaitable[float]]


class Server:
    """The dashboard in a process of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE], stdout=subprocess.PIPE, text=True
        )
        begun = time.perf_counter()
        found = re.search(r"http://\S+", self.process.stdout.readline())
        if found is None:
            raise SystemExit("The dashboard did not start.")
        self.url, self.ready = found[0], time.perf_counter() - begun
        self.usage = psutil.Process(self.process.pid)

    def megabytes(self) -> float:
        """Memory of the server without its encoder's process (MB)."""
        return self.usage.memory_info().rss / 1e6

    def close(self) -> None:
        """Stop it."""
        self.process.terminate()
        self.process.wait()

    async def health(self) -> dict[str, int]:
        """Widgets and pictures that it holds."""
        return json.loads((await AsyncHTTPClient().fetch(f"{self.url}health")).body)


def clicks(chance: random.Random) -> Iterator[tuple[float, float]]:
    """Places (lon, lat) within the demo, none of which reads like the one before.

    A click that reads like the one before changes no text, so that no answer to it can be seen.
    """
    west, south, east, north = demos()[0].region.bounds
    said = ""
    while True:
        lon, lat = chance.uniform(west, east), chance.uniform(south, north)
        if degrees(lon, lat) != said:
            said = degrees(lon, lat)
            yield lon, lat


def interactions(visitor: Visitor, chance: random.Random) -> dict[str, Act]:
    """What a visitor may do, each until its answer is there."""
    line = visitor.text("Click the map to inspect")
    layers = visitor.find("RadioButtonGroup", "Clusters")
    state = {"layer": "Features"}
    places = clicks(chance)

    def click(limit: float = 60.0) -> Awaitable[float]:
        lon, lat = next(places)
        words = degrees(lon, lat)
        return visitor.timed(
            visitor.click(lon, lat), lambda said: line in said and words in said, limit
        )

    def turn() -> Awaitable[float]:
        state["layer"] = chance.choice([each for each in LAYERS if each != state["layer"]])
        act = visitor.choose(layers, state["layer"])
        return visitor.timed(act, lambda said: "legend" in said)

    return {"click": click, "layer": turn}


async def live(server: Server, visits: int, minutes: float) -> dict[str, Any]:
    """Several visitors at once while one encodes."""
    took: dict[str, list[float]] = {}
    failed: list[str] = []
    encodings = [0]
    end = time.monotonic() + 60 * minutes

    async def encoding() -> None:
        visitor = await Visitor.arrive(server.url)
        await asyncio.sleep(2)
        network, spacing = visitor.find("Select", NETWORKS[0]), visitor.find("Select", "20 m")
        button = visitor.find("Button", "Encode")
        for name, metres in itertools.product(NETWORKS, SPACINGS):
            await visitor.choose(network, name)
            await visitor.choose(spacing, metres)
            await asyncio.sleep(1)
            await visitor.timed(visitor.press(button), _whole, 60 * minutes + 600)
            encodings[0] += 1

    async def looking(number: int) -> None:
        chance = random.Random(number)
        await asyncio.sleep(2 * number)
        done, name = 0, "arrival"
        try:
            visitor = await Visitor.arrive(server.url)
            await asyncio.sleep(3)
            acts = interactions(visitor, chance)
            await settled(acts["click"])
            while time.monotonic() < end:
                name = chance.choice(list(acts))
                took.setdefault(name, []).append(await acts[name]())
                done += 1
                await asyncio.sleep(chance.uniform(*THINKING))
            await visitor.leave()
        except FAILURES as error:
            why = f"{type(error).__name__} {error}"
            failed.append(f"visitor {number}, {name} after {done} interactions: {why}")

    busy = asyncio.create_task(encoding())
    await asyncio.gather(*(looking(number) for number in range(visits)))
    if busy.done() and (error := busy.exception()) is not None:
        failed.append(f"encoding: {type(error).__name__} {error}")
    busy.cancel()
    every = [seconds for times in took.values() for seconds in times]
    if not every:
        raise SystemExit(f"No interaction was answered: {failed}")
    return {
        "visitors": visits,
        "interactions": len(every),
        "median": float(np.median(every)),
        "p95": float(np.percentile(every, 95)),
        "worst": max(every),
        "by kind": {name: float(np.percentile(times, 95)) for name, times in took.items()},
        "encodings": encodings[0],
        "failed": failed,
    }


async def settled(click: Callable[..., Awaitable[float]]) -> None:
    """Wait until the page answers: Panel keeps to itself what changes before it knows it loaded."""
    for _ in range(11):
        with contextlib.suppress(TimeoutError):
            await click(5.0)
            return
    await click(60.0)


def _whole(said: str) -> bool:
    return re.search(r"(\d+) of \1 windows encoded", said) is not None


async def soak(server: Server, visits: int) -> dict[str, Any]:
    """Visits one after the other; what is left of them."""
    warm, failed, started = max(5, visits // 10), 0, 0.0
    for number in range(visits + warm):
        if number == warm:
            await emptied(server)
            started = server.megabytes()
        try:
            visitor = await Visitor.arrive(server.url)
            for act in interactions(visitor, random.Random(number)).values():
                await act()
            await visitor.leave()
        except FAILURES:
            failed += 1
    left = await emptied(server)
    return {
        "visits": visits,
        "failed": failed,
        "left": left,
        "before MB": started,
        "grown MB": server.megabytes() - started,
        "threads": server.usage.num_threads(),
        "files": server.usage.num_fds(),
    }


async def emptied(server: Server) -> dict[str, int]:
    """What is still held once the sessions that ended have had time to go."""
    held = await server.health()
    for _ in range(240):
        if not any(held.values()):
            break
        await asyncio.sleep(0.5)
        held = await server.health()
    return held


async def run(given: argparse.Namespace) -> list[dict[str, Any]]:
    server = Server()
    try:
        start = {"ready s": server.ready, "server MB": server.megabytes()}
        print(f"ready after {server.ready:.1f} s with {start['server MB']:.0f} MB", flush=True)
        rows = [start]
        if given.soak:
            rows.append(await soak(server, given.soak))
            print(json.dumps(rows[-1]), flush=True)
        if given.live:
            rows.append(await live(server, given.live, given.minutes))
            print(json.dumps(rows[-1]), flush=True)
        return rows
    finally:
        server.close()


def holds(rows: list[dict[str, Any]]) -> list[str]:
    """What was asked for and does not hold."""
    wrong = []
    for row in rows:
        if row.get("failed"):
            wrong.append(f"failures: {row['failed']}")
        if row.get("p95", 0) > MOST_SECONDS:
            wrong.append(f"p95 is {row['p95']:.2f} s, more than {MOST_SECONDS} s")
        if any(row.get("left", {}).values()):
            wrong.append(f"left behind: {row['left']}")
        if row.get("grown MB", 0) > MOST_MB:
            wrong.append(f"grown by {row['grown MB']:.1f} MB, more than {MOST_MB:.0f} MB")
    return wrong


def main() -> int:
    """Run both parts, print what was measured and what does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--live", type=int, default=5, help="visitors at once; 0 to leave out")
    parser.add_argument("--soak", type=int, default=200, help="visits in turn; 0 to leave out")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long the live part takes")
    parser.add_argument("--history", type=Path, help="append the results to this JSON-lines file")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f} before", flush=True)
    rows = asyncio.run(run(given))
    wrong = holds(rows)
    print(f"load {os.getloadavg()[0]:.1f} after")
    print("\n".join(wrong) or "everything asked for holds")
    if given.history:
        entry = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "load": load}
        with given.history.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({**entry, "rows": rows}) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
