"""A server for browser tests that is ready soon: one small place, no high resolution."""

import sys
import tempfile
from pathlib import Path

from app.main import serve
from app.places import SYNTHETIC, Place
from skysense.region import Region
from skysense.sources import synthetic

region = Region.around(3.0239, 50.8160, 320, ("2023-01-01", "2023-12-31"), "<b>Small</b>")
whole = synthetic.scene_for
synthetic.scene_for = lambda asked, sensors=None, **options: whole(
    asked, sensors or ("s2", "s1"), **options
)
own = tempfile.TemporaryDirectory()
serve(
    port=0,
    prefix=sys.argv[1],
    recipes=Path(sys.argv[2]) if sys.argv[2:] and sys.argv[2] else None,
    places=[Place("small", region.name, SYNTHETIC, region)],
    linger=1.0,
    encoder="spectral",  # which is quick
    sessions=Path(sys.argv[3] if len(sys.argv) > 3 else own.name),
)
