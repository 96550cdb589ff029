"""Pixels that come over the network, patiently and within limits.

Catalogue pages go through `skysense.sources.catalogue`, pixels through `read_remote`; nothing else
in this package opens a remote address. What is repeated follows measurements against a misbehaving server: GDAL
repeats a request after 429, 5xx and a stall, but not after a body cut short, and it remembers a
failed address and a broken block for the life of the process, so that our own repeat has to tell
it to trust nothing it remembers.
"""

import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import rasterio
import requests
from rasterio.errors import RasterioError

from skysense.errors import SourceError
from skysense.sources.access import Access, Limits, Signer, shown

log = logging.getLogger(__name__)

AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses worth another try."""

T = TypeVar("T")


@dataclass(frozen=True)
class Fault:
    """Why a read failed, in words, and whether another try may help."""

    why: str
    again: bool = False
    expired: bool = False
    """The address was refused (401, 403): its signature may have run out."""
    server: bool = False
    """Nothing came back at all; the next image of this server will fail too."""


_FAULTS = (
    (r"timed out", "the server stopped sending", {"server": True}),
    (
        r"resolve host|[Ff]ailed to connect|connect to server|Connection refused",
        "the server cannot be reached",
        {"again": True, "server": True},
    ),
    (
        r"not recognized as being in a supported file format",
        "it is not a GeoTIFF that can be read in parts",
        {"again": True},  # a first block cut short looks the same
    ),
)


def fault_of(error: Exception) -> Fault:
    """What GDAL's message means."""
    text = " ".join(str(e) for e in (error, error.__cause__, error.__context__) if e is not None)
    status = re.search(r"HTTP response code:? ?(\d{3})", text)
    if status:
        code = int(status[1])
        return Fault(
            f"the server answered HTTP {code}", again=code in AGAIN, expired=code in {401, 403}
        )
    for pattern, why, flags in _FAULTS:
        if re.search(pattern, text):
            return Fault(why, **flags)
    return Fault("its data is incomplete or damaged", again=True)


class ReadError(SourceError):
    """One image could not be read; `fault` says why."""

    def __init__(self, message: str, fault: Fault) -> None:
        super().__init__(message)
        self.fault = fault

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.fault)


def read_remote(
    access: Access, href: str, work: Callable[[rasterio.DatasetReader], T], name: str
) -> T:
    """Open a remote GeoTIFF and give it to `work`, again and again until it succeeds or time is up.

    Args:
        access: What may be opened.
        href: Its unsigned address; it is signed just before it is opened.
        work: Reads what is wanted. It may be called several times.
        name: What to call the image in an error.

    Raises:
        ReadError: With the reason, once trying again is of no use.
        SourceError: If the address is not allowed.
    """
    limits = access.limits
    end = time.monotonic() + limits.total
    access.check(href)
    signed_again = False
    attempt = 0
    while True:
        url = _signed(access, href, name)
        try:
            with _opened(access, url, fresh=attempt > 0) as dataset:
                return work(dataset)
        except RasterioError as error:
            fault = fault_of(error)
            log.info("%s: %s (attempt %d)", name, fault.why, attempt + 1)
        attempt += 1
        pause = min(10.0, limits.delay * 2**attempt) * random.uniform(0.75, 1.25)
        if fault.expired and access.signer is not None and not signed_again:
            signed_again = True
            access.signer.forget(url)
            continue
        if not fault.again or attempt >= limits.attempts or time.monotonic() + pause > end:
            host = urlsplit(href).netloc
            raise ReadError(f"{name} could not be read from {host}: {fault.why}.", fault)
        time.sleep(pause)


def _signed(access: Access, href: str, name: str) -> str:
    """The address to open, signed at the last moment."""
    if access.signer is None:
        return href
    try:
        url = access.signer.sign(href)
    except SourceError as error:
        raise ReadError(
            f"{name} could not be read. {error}", Fault("no permit", server=True)
        ) from error
    return access.check(url)


@contextmanager
def _opened(access: Access, url: str, fresh: bool) -> Iterator[rasterio.DatasetReader]:
    """The dataset behind an address that was checked; `fresh` distrusts GDAL's memory of it."""
    options: dict[str, Any] = access.limits.gdal()
    if fresh:
        options["CPL_VSIL_CURL_NON_CACHED"] = "/vsicurl/"
    # One named driver: a VRT, whatever it is called, could name local files and other hosts.
    with rasterio.Env(**options), rasterio.open(url, driver="GTiff", sharing=False) as dataset:
        yield dataset


_signing = threading.Lock()


def sign_planetary_computer(href: str) -> str:
    """`planetary_computer.sign`, one request at a time and not for ever.

    The library keeps the token of a container until a minute before it expires, but its request
    has no timeout.
    """
    import planetary_computer

    outcome: dict[str, Any] = {}

    def ask() -> None:
        try:
            outcome["href"] = planetary_computer.sign(href)
        except (requests.RequestException, ValueError) as error:
            outcome["error"] = error

    with _signing:
        worker = threading.Thread(target=ask, daemon=True)
        worker.start()
        worker.join(Limits().total)
    if "href" not in outcome:
        why = outcome.get("error", "it did not answer")
        raise SourceError(
            f"Planetary Computer gave no reading permit for {shown(href)}: {_first_line(why)}. "
            "Try again in a minute."
        )
    return outcome["href"]


def forget_planetary_computer(url: str) -> None:
    """Drop the permit that is in `url`; one that another thread has renewed meanwhile stays."""
    from planetary_computer.sas import TOKEN_CACHE

    with _signing:
        for key, token in list(TOKEN_CACHE.items()):
            if token.token in url:
                del TOKEN_CACHE[key]


PLANETARY_COMPUTER_SIGNER = Signer(sign_planetary_computer, forget_planetary_computer)


def _first_line(error: object) -> str:
    """An error's first line without queries, which may hold signatures."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"\?[^\s'\")]+", "", line)[:200]
