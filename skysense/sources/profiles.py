"""What each catalogue calls things, and how its numbers are to be read.

A profile is everything that differs between providers: addresses, collections, asset names in the
order of the model's bands, whether the Sentinel-2 offset is still in the pixels, masks, signing.
The profiles were written from the providers' documentation, from issue threads and from recorded
items; none has been called live from here, and every stack made with one says so.
"""

from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from skysense.errors import SourceError
from skysense.sensors import SENSORS
from skysense.sources.access import Access, Limits, Signer
from skysense.sources.net import PLANETARY_COMPUTER_SIGNER

COPERNICUS = "Contains modified Copernicus Sentinel data; free and open use with this notice"


@dataclass(frozen=True)
class Layer:
    """Where a band is: names an asset may have, and the band inside it."""

    assets: tuple[str, ...]
    index: int = 1
    """One-based band of a file with several."""


@dataclass(frozen=True)
class Collection:
    """One sensor's collection at one provider."""

    sensor: str
    ids: tuple[str, ...]
    """Names the collection may have; the first that the catalogue holds is used."""
    bands: dict[str, Layer]
    """Our band names, in the model's order."""
    mask: Layer | None = None
    """The Sentinel-2 scene classification."""
    offset: str = "raw"
    """`raw`, `declared` or `shifted`; see `radiometry.offset_to_add`. Sentinel-2 only."""
    level: str = ""
    backscatter: str = ""
    nodata: float | None = None
    """Value that means no data where the item does not say."""
    gsd: float = 10.0
    """Pixel size where the item does not say (m)."""
    licence: str = ""


@dataclass(frozen=True)
class Profile:
    """One provider."""

    name: str
    title: str
    address: str
    collections: dict[str, Collection]
    hosts: tuple[str, ...] = ()
    """Hosts its images are on, besides the catalogue's own."""
    signer: Signer | None = field(default=None, repr=False)
    absent: dict[str, str] = field(default_factory=dict)
    """Sensor to the reason why it cannot be had here."""
    called_live: bool = False

    def access(self, allow_hosts: tuple[str, ...], limits: Limits) -> Access:
        """What may be opened when this profile is used."""
        return Access.to(
            self.address, (*self.hosts, *allow_hosts), signer=self.signer, limits=limits
        )

    def at(self, address: str) -> "Profile":
        """The same profile at another address, unsigned: a mirror of the catalogue."""
        return replace(self, address=address, hosts=(), signer=None)


def _layers(sensor: str, *names: str) -> dict[str, Layer]:
    """One asset for each band of a sensor, in the model's order."""
    return {band: Layer((name,)) for band, name in zip(SENSORS[sensor].names, names, strict=True)}


_S2_CODES = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
_RGBN = {name: Layer(("image",), i) for i, name in enumerate(("red", "green", "blue", "nir"), 1)}

NAIP = Collection(
    "hr",
    ("naip",),
    _RGBN,
    gsd=0.6,
    licence="NAIP aerial imagery, U.S. Department of Agriculture, public domain",
)

PLANETARY_COMPUTER = Profile(
    name="planetary-computer",
    title="Microsoft Planetary Computer",
    address="https://planetarycomputer.microsoft.com/api/stac/v1",
    collections={
        "hr": NAIP,
        "s2": Collection(
            "s2",
            ("sentinel-2-l2a",),
            _layers("s2", *_S2_CODES),
            mask=Layer(("SCL",)),
            offset="raw",
            level="L2A",
            nodata=0,
            licence=COPERNICUS,
        ),
        "s1": Collection(
            "s1",
            ("sentinel-1-rtc",),
            _layers("s1", "vv", "vh"),
            level="RTC",
            backscatter="gamma0",
            nodata=-32768,
            licence=COPERNICUS + "; terrain correction by Catalyst.Earth, CC BY 4.0",
        ),
    },
    hosts=("*.blob.core.windows.net",),
    signer=PLANETARY_COMPUTER_SIGNER,
)

EARTH_SEARCH = Profile(
    name="earth-search",
    title="Earth Search by Element 84",
    address="https://earth-search.aws.element84.com/v1",
    collections={
        "s2": Collection(
            "s2",
            ("sentinel-2-c1-l2a",),
            _layers("s2", *SENSORS["s2"].names),
            mask=Layer(("scl",)),
            offset="declared",
            level="L2A",
            nodata=0,
            licence=COPERNICUS,
        ),
    },
    hosts=(
        "e84-earth-search-sentinel-data.s3.us-west-2.amazonaws.com",
        "sentinel-cogs.s3.us-west-2.amazonaws.com",
    ),
    absent={
        "s1": "its Sentinel-1 is paid for by the reader and not on a map grid",
        "hr": "its aerial imagery is paid for by the reader",
    },
)


def own_address(address: str) -> Profile:
    """A profile for any other catalogue: the usual names are tried, its own metadata are believed.

    Args:
        address: The root of a STAC API, http or https.
    """
    s2 = SENSORS["s2"].bands
    codes = {b.name: (b.name, b.code, f"{b.code}_{b.gsd:g}m", b.code.lower()) for b in s2}
    return Profile(
        name="own",
        title=urlsplit(address).netloc,
        address=address,
        collections={
            "hr": replace(NAIP, licence=""),
            "s2": Collection(
                "s2",
                ("sentinel-2-c1-l2a", "sentinel-2-l2a"),
                {name: Layer(names) for name, names in codes.items()},
                mask=Layer(("scl", "SCL", "SCL_20m")),
                offset="declared",
                level="L2A",
                nodata=0,
            ),
            "s1": Collection(
                "s1",
                ("sentinel-1-rtc", "sentinel1-rtc-aws", "sentinel-1-grd"),
                {
                    "vv": Layer(("vv", "VV", "gamma0_vv")),
                    "vh": Layer(("vh", "VH", "gamma0_vh")),
                },
            ),
        },
    )


PROFILES = {p.name: p for p in (PLANETARY_COMPUTER, EARTH_SEARCH)}


def profile_of(source: str) -> Profile:
    """The profile for a name or an address.

    Raises:
        SourceError: If it is neither.
    """
    if source in PROFILES:
        return PROFILES[source]
    if not isinstance(source, str) or not source.startswith(("http://", "https://")):
        raise SourceError(
            f"{source!r} is not a catalogue. Use one of {', '.join(PROFILES)}, or the address of "
            "a STAC API beginning with https://."
        )
    for profile in PROFILES.values():
        if source.rstrip("/") == profile.address:
            return profile
    return own_address(source)
