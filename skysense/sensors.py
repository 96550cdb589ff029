"""The three sensors SkySense reads: bands in the model's order, units, statistics, grid.

Statistics are in the units of the stack contract (reflectance, dB, 0..255). The published ones are
in digital numbers: reflectance x 10,000 for Sentinel-2 (SkySense++ data configuration), dB for
Sentinel-1 (same source), 0..255 for high resolution (ImageNet, as in the official configuration).
"""

from dataclasses import dataclass

CELL = 10.0
"""Side of the finest feature cell (m): one Sentinel-2 pixel, 32 high-resolution pixels."""

TOKEN = 40.0
"""Side of a Sentinel-2 or Sentinel-1 token (m): patches of 4 pixels."""

WINDOW = 640.0
"""Side of an encoder window (m): 64 Sentinel-2 pixels, 2,048 high-resolution pixels."""

HR_RESOLUTION = CELL / 32
"""Pixel size the high-resolution encoder reads (m)."""

HR_COARSEST = 1.25
"""Coarsest high-resolution pixel (m) the encoder is meant for; beyond it, encoding warns."""

MIN_BANDS = {"hr": 3, "s2": 4, "s1": 1}
"""Fewest bands a batch may be made from; the rest is filled with the sensor's mean, and said."""


@dataclass(frozen=True)
class Band:
    """One channel of a sensor."""

    name: str
    """Common name, the one used in every `band` coordinate."""
    code: str
    """The sensor's own name, as in product files."""
    wavelength: float
    """Centre wavelength (µm); for radar the wavelength of the carrier."""
    gsd: float
    """Native pixel size (m)."""


@dataclass(frozen=True)
class Sensor:
    """A source of images: its bands in the model's order and what their values mean."""

    key: str
    title: str
    bands: tuple[Band, ...]
    units: str
    """`reflectance` (0..1 and a little more), `dB`, or `0..255`."""
    resolution: float
    """Pixel size the encoder reads (m)."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    plausible: tuple[float, float]
    """Where the median of a scene must lie; outside it the scale or the units are wrong."""
    extra: tuple[Band, ...] = ()
    """Bands that may be stored and shown but that the encoder does not read."""

    @property
    def names(self) -> tuple[str, ...]:
        """Band names in the order the model reads them."""
        return tuple(band.name for band in self.bands)

    @property
    def known(self) -> tuple[str, ...]:
        """Every band name a stack of this sensor may hold."""
        return self.names + tuple(band.name for band in self.extra)

    def name_of(self, band: str) -> str | None:
        """Common name of a band given by name or product code (`B02`, `B2`, `VV`), or None."""
        wanted = band.strip().lower().replace("_", "")
        for each in (*self.bands, *self.extra):
            code = each.code.lower()
            if wanted in {each.name, code, code.replace("b0", "b")}:
                return each.name
        return None


_S2_MEAN_DN = (884.29673756, 1144.16202635, 1297.47289228, 1624.90992062, 2194.6423161,
               2422.21248945, 2517.76053101, 2581.64687018, 2368.51236873, 1805.06846033)  # fmt: skip
_S2_STD_DN = (1155.15170768, 1183.6292542, 1368.11351514, 1370.265037, 1355.55390699,
              1416.51487101, 1474.78900051, 1439.3086061, 1455.52084939, 1343.48379601)  # fmt: skip

S2 = Sensor(
    key="s2",
    title="Sentinel-2",
    bands=(
        Band("blue", "B02", 0.490, 10),
        Band("green", "B03", 0.560, 10),
        Band("red", "B04", 0.665, 10),
        Band("rededge1", "B05", 0.705, 20),
        Band("rededge2", "B06", 0.740, 20),
        Band("rededge3", "B07", 0.783, 20),
        Band("nir", "B08", 0.842, 10),
        Band("nir08", "B8A", 0.865, 20),
        Band("swir16", "B11", 1.610, 20),
        Band("swir22", "B12", 2.190, 20),
    ),
    units="reflectance",
    resolution=10.0,
    mean=tuple(v / 10_000 for v in _S2_MEAN_DN),
    std=tuple(v / 10_000 for v in _S2_STD_DN),
    plausible=(0.001, 1.0),
)

S1 = Sensor(
    key="s1",
    title="Sentinel-1",
    bands=(Band("vv", "VV", 55_465.8, 10), Band("vh", "VH", 55_465.8, 10)),
    units="dB",
    resolution=10.0,
    mean=(-12.54847273, -20.19237134),
    std=(5.25697717, 5.91150917),
    # linear backscatter, mostly 0 to 1, is not taken for decibels; the brightest towns are near -3
    plausible=(-45.0, -1.0),
)

HR = Sensor(
    key="hr",
    title="High resolution",
    bands=(
        Band("red", "R", 0.660, 0.3),
        Band("green", "G", 0.545, 0.3),
        Band("blue", "B", 0.480, 0.3),
    ),
    units="0..255",
    resolution=HR_RESOLUTION,
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    plausible=(2.0, 255.0),
    extra=(Band("nir", "NIR", 0.830, 0.6),),
)

SENSORS: dict[str, Sensor] = {"hr": HR, "s2": S2, "s1": S1}
"""The sensors by key, in the order their tokens enter the fusion transformer."""
