"""Fields as pictures under an address that the map can show."""

from dataclasses import dataclass

from app.overlays import Overlays
from skysense import view


@dataclass(frozen=True)
class Picture:
    """A picture on the server, and where it goes on the map."""

    token: str
    bounds: tuple[tuple[float, float], tuple[float, float]]
    """((south, west), (north, east)) in degrees, as leaflet wants them."""
    crisp: bool
    """Whether pixels keep their edges when enlarged."""

    def url(self, prefix: str) -> str:
        """Address of the picture; the fragment is for the stylesheet of the map."""
        return f"{prefix}/overlay/{self.token}.png" + ("#crisp" if self.crisp else "")


def keep(drawn: view.Overlay, overlays: Overlays, crisp: bool = True) -> Picture:
    """Keep a picture that was drawn on the server."""
    return Picture(overlays.put(drawn.png), drawn.bounds, crisp)
