"""Pages of a catalogue, patiently and within limits.

Apart from `skysense.sources.net` because the library behind it takes over a second to import, which
nobody should wait for who opens files or a made-up scene.
"""

import io
import random
import re
import time
from typing import Any

import requests
import urllib3
from pystac.link import Link
from pystac_client.stac_api_io import StacApiIO
from requests.adapters import HTTPAdapter

from skysense.sources.access import Access
from skysense.sources.net import AGAIN

MAX_PAGE = 64_000_000
"""Largest catalogue answer that is read (bytes)."""

TRIES = 6
"""How often a catalogue request is sent at most; the time limit may end it earlier."""


class Catalogue(StacApiIO):
    """What pystac-client talks through: allowed hosts only, bounded in time and size."""

    def __init__(self, access: Access) -> None:
        super().__init__(max_retries=None)
        self._access = access
        self.session.max_redirects = 5
        adapter = _PatientAdapter(access)
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, adapter)

    def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
        """Text of an allowed address; local paths, which the base class opens, are refused."""
        self._access.check(source.href if isinstance(source, Link) else str(source))
        return super().read_text(source, *args, **kwargs)


class _PatientAdapter(HTTPAdapter):
    """Checks every request (redirects too), repeats it after 429, 5xx and stalls, ends in time."""

    def __init__(self, access: Access) -> None:
        super().__init__()
        self._access = access
        self._deadline = time.monotonic() + access.limits.total

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        limits = self._access.limits
        self._access.check(request.url)
        kwargs |= {"stream": True}
        for attempt in range(TRIES):
            left = self._deadline - time.monotonic()
            if left <= 0:
                break
            kwargs["timeout"] = (min(limits.connect, left), min(limits.request, left))
            try:
                response = super().send(request, **kwargs)
                response = self._whole(response)
            except (requests.ConnectionError, requests.Timeout) as error:
                if attempt == TRIES - 1 or "NameResolution" in str(error):
                    raise
                pause = 0.0
            else:
                if response.status_code not in AGAIN or attempt == TRIES - 1:
                    return response
                pause = _retry_after(response)
            pause = max(pause, limits.delay * 2**attempt * random.uniform(0.75, 1.25))
            if time.monotonic() + pause >= self._deadline:
                break
            time.sleep(pause)
        raise requests.Timeout(f"no usable answer within {limits.total:g} s")

    def _whole(self, response: requests.Response) -> requests.Response:
        """The response with its body read, unless that takes too long or too much.

        requests only limits the wait between two bytes, so a server that sends one byte a second
        could hold us for hours; read1 gives back control after every packet.
        """
        body = bytearray()
        try:
            while piece := response.raw.read1(65_536, decode_content=True):
                body += piece
                if len(body) > MAX_PAGE:
                    raise requests.RequestException(f"an answer of over {MAX_PAGE / 1e6:.0f} MB")
                if time.monotonic() > self._deadline:
                    raise requests.Timeout(f"still sending after {self._access.limits.total:g} s")
        except urllib3.exceptions.HTTPError as error:
            raise requests.ConnectionError(error) from error
        finally:
            response.close()
        whole = requests.Response()
        for name in ("status_code", "headers", "url", "reason", "request", "encoding"):
            setattr(whole, name, getattr(response, name))
        whole.raw = io.BytesIO(bytes(body))
        return whole


def _retry_after(response: requests.Response) -> float:
    """Seconds the server asks us to wait, from the header or the usual sentence."""
    said = response.headers.get("Retry-After", "")
    if not said.isdigit():
        found = re.search(r"try again in (\d+) second", response.text[:500], re.IGNORECASE)
        said = found[1] if found else ""
    return float(said) if said.isdigit() else 0.0
