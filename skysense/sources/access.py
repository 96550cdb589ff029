"""Which addresses may be opened, and how long to wait for them.

A catalogue is somebody else's text: an `href` in it may name a local file, a GDAL path such as
`/vsizip/`, VRT text that names other files, or an address inside the network this runs in. So an
address is opened only if it is plain http or https and its scheme, host and port are on a list:
those of the provider's profile, or for a user's own catalogue that catalogue's own host and the
hosts listed explicitly. Cloud metadata addresses are refused even then.

Names are compared as text, not resolved; a redirect is checked while a catalogue is searched, but
GDAL follows one by itself while pixels are read (`docs/catalogues.md`).
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from skysense.errors import SourceError

NEVER = frozenset({"metadata.google.internal", "100.100.100.200", "fd00:ec2::254"})
"""Addresses of cloud metadata services besides the link-local ones; refused even if listed."""


@dataclass(frozen=True)
class Limits:
    """How long to wait and how often to try again."""

    total: float = 120.0
    """Seconds that a search may take, and after which a stalled image server is given up."""
    connect: float = 10.0
    """Seconds to reach a server."""
    request: float = 30.0
    """Seconds that one request may take."""
    retries: int = 2
    """How often GDAL repeats a request after 429, 5xx or a stall; a stall costs `request` each time."""
    delay: float = 0.5
    """Seconds before the first repeat; doubled each time."""
    attempts: int = 3
    """How often a read is started in all, after broken data or when GDAL's repeats did not help."""

    def __post_init__(self) -> None:
        positive = min(self.total, self.connect, self.request, self.delay) > 0
        if not positive or self.retries < 0 or self.attempts < 1:
            raise SourceError(f"{self} needs times above 0 and at least one attempt.")

    @classmethod
    def within(cls, total: float) -> "Limits":
        """Limits under which a stalled server is given up after `total` seconds.

        Raises:
            SourceError: If `total` is not a number of seconds above 0.
        """
        if isinstance(total, bool) or not (isinstance(total, int | float) and 0 < total < 1e5):
            raise SourceError(f"timeout={total!r} is not a number of seconds above 0.")
        plain = cls()
        request = min(plain.request, total / 4)
        connect, delay = min(plain.connect, request), min(plain.delay, total / 100)
        return cls(total, connect, request, plain.retries, delay, plain.attempts)

    def gdal(self) -> dict[str, str]:
        """The GDAL configuration of every remote read, also sent to Dask workers."""
        return {
            "GDAL_HTTP_TIMEOUT": f"{self.request:g}",
            "GDAL_HTTP_CONNECTTIMEOUT": f"{self.connect:g}",
            "GDAL_HTTP_MAX_RETRY": str(self.retries),
            "GDAL_HTTP_RETRY_DELAY": f"{self.delay:g}",
            "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
            "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif,.tiff,.jp2",
            "GDAL_HTTP_MULTIPLEX": "YES",
            "GDAL_HTTP_NETRC": "NO",
            "VSI_CACHE": "TRUE",
        }


@dataclass(frozen=True)
class Signer:
    """Turns an address into one that may be read for a while."""

    sign: Callable[[str], str]
    forget: Callable[[str], None]
    """Drops the permit in a signed address that was refused, so that the next `sign` asks anew."""


@dataclass(frozen=True)
class Access:
    """Which addresses may be opened, and how."""

    origins: frozenset[str]
    """`scheme://host[:port]`; a host may begin with `*.`."""
    signer: Signer | None = None
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def to(
        cls,
        address: str,
        hosts: Iterable[str] = (),
        *,
        signer: Signer | None = None,
        limits: Limits | None = None,
    ) -> "Access":
        """Access to a catalogue and to the hosts its images are on.

        Args:
            address: The catalogue's own address, http or https.
            hosts: More hosts, as `host[:port]` (https, or http where the catalogue itself is on
                http) or as `scheme://host[:port]`.
            signer: How image addresses are signed.
            limits: Waiting times.
        """
        scheme = urlsplit(_plain(address)).scheme
        origins = {_origin(address)}
        for host in hosts:
            if not isinstance(host, str) or not host.strip():
                raise SourceError(f"allow_hosts holds {host!r}; give host names as text.")
            origins.add(_origin(host if "://" in host else f"{scheme}://{host}"))
        return cls(frozenset(origins), signer, limits or Limits())

    def allows(self, href: str) -> bool:
        """Whether `href` is on one of the origins."""
        origin = _origin(href)
        scheme, _, host = origin.partition("://")
        return any(
            origin == known
            or (
                known.startswith(f"{scheme}://*.")
                and host.endswith(known.removeprefix(f"{scheme}://*"))
            )
            for known in self.origins
        )

    def check(self, href: Any) -> str:
        """`href` itself if it may be opened.

        Raises:
            SourceError: For anything but a plain http(s) address on an allowed host: local files,
                `/vsi` paths, VRT text, other hosts, cloud metadata services.
        """
        if not self.allows(_plain(href)):
            raise SourceError(
                f"The catalogue points to {shown(href)}, which is not on "
                f"{', '.join(sorted(self.origins))}. If you trust that host, pass "
                f"allow_hosts=[{urlsplit(href).netloc!r}]."
            )
        return href


def _plain(href: Any) -> str:
    """`href` if it is an unremarkable http(s) address."""
    if not isinstance(href, str) or not href or len(href) > 4096:
        raise SourceError(f"{shown(href)} is not a web address. Give https://host/path.")
    try:
        parts = urlsplit(href)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise SourceError(f"{shown(href)} is not a web address: {error}.") from error
    odd = not re.fullmatch(r"[!-~]+", href) or "\\" in href or "<" in href
    if odd or parts.scheme not in {"http", "https"} or not host or port == 0:
        raise SourceError(
            f"{shown(href)} is not a plain http or https address; local files, /vsi paths and "
            "anything else a catalogue may name are refused."
        )
    if parts.username is not None or parts.password is not None:
        raise SourceError(f"{shown(href)} holds a user name; remove it from the address.")
    host = host.rstrip(".")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        ip = None
    if ip is not None:
        ip = getattr(ip, "ipv4_mapped", None) or ip
        if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
            raise SourceError(f"{host} is an address that no catalogue may be on.")
    if host in NEVER:
        raise SourceError(f"{host} is an address that no catalogue may be on.")
    return href


def _origin(href: str) -> str:
    parts = urlsplit(_plain(href))
    host = (parts.hostname or "").rstrip(".")
    host = f"[{host}]" if ":" in host else host
    standard = {"http": 80, "https": 443}[parts.scheme]
    port = "" if parts.port in {None, standard} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def shown(href: Any) -> str:
    """An address for an error message: no query (it may hold a signature), not too long."""
    text = href.partition("?")[0] if isinstance(href, str) else repr(href)
    return repr(text[:117] + "..." if len(text) > 120 else text)
