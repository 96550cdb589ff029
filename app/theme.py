"""Looks: one quiet light theme, one accent, colours of pictures come from `skysense.view`.

Type, and the height of what holds a line of it, is measured in `rem`, so that all of it grows with
the root of the page (`app.keys.Keys.large`).
"""

from typing import Any

INK = "#1d2a35"
QUIET = "#5b6b78"
LINE = "#dfe5ea"
GROUND = "#f6f8f9"
ACCENT = "#0b6477"
WARN = "#8a5300"
WARN_GROUND = "#fff3dc"
FAIL = "#a3261b"
FAIL_GROUND = "#fdeeec"


TYPE = 13
"""Ordinary size of type (pixels)."""

ROOT = 16 * TYPE / 14
"""What Panel makes of it at the root of the page: one `rem` (pixels)."""

LARGER = 1.25
"""How much larger type is for teaching."""


def rem(pixels: float) -> str:
    """A length that grows with the type of the page; so many pixels at its ordinary size."""
    return f"{pixels / ROOT:.5g}rem"


def exactly(width: str) -> dict[str, str]:
    """Styles of what is so wide (CSS) whatever Panel makes of its parameters."""
    return {"min-width": width, "max-width": width}


THEME: dict[str, Any] = {
    "palette": {
        "primary": {"main": ACCENT},
        "text": {"primary": INK, "secondary": QUIET},
        "background": {"default": GROUND, "paper": "#ffffff"},
    },
    "typography": {"fontSize": TYPE, "button": {"textTransform": "none"}},
    "shape": {"borderRadius": 8},
    "components": {
        "MuiTab": {"styleOverrides": {"root": {"textTransform": "none", "minHeight": 44}}},
        "MuiTabs": {"styleOverrides": {"root": {"minHeight": 44}}},
        # a tooltip must never lie between the mouse and what it is about
        "MuiTooltip": {
            "defaultProps": {"disableInteractive": True, "enterDelay": 600},
            # one of a button would be as narrow as the button
            "styleOverrides": {"tooltip": {"width": "max-content", "maxWidth": 260}},
        },
        "MuiButton": {"defaultProps": {"disableElevation": True}},
        "MuiButtonBase": {
            "styleOverrides": {
                "root": {
                    "&.Mui-focusVisible": {"outline": f"2px solid {ACCENT}", "outlineOffset": "2px"}
                }
            }
        },
        "MuiSlider": {
            "styleOverrides": {
                "thumb": {
                    "&.Mui-focusVisible": {"outline": f"2px solid {ACCENT}", "outlineOffset": "2px"}
                }
            }
        },
    },
}

PAGE = {
    "& .MuiAppBar-root, & .MuiToolbar-root": {"display": "none"},  # the page has its own header
    "& main": {"backgroundColor": GROUND},
}

SEGMENTS = {"& .MuiToggleButton-root": {"whiteSpace": "nowrap", "px": 1.1, "py": 0.5,
                                        "fontSize": rem(12.5), "lineHeight": 1.5}}  # fmt: skip
"""Looks of a row of buttons of which one is on."""

MAP_CSS = (
    f"""
.leaflet-container {{ background: #d1e0e8; font-family: inherit; font-size: {rem(12)}; }}
path[stroke-width="2"] {{ stroke-width: {rem(2)}; }}
.leaflet-control-attribution {{ font-size: {rem(10)}; }}
:host {{ --jp-layout-color1: #ffffff; --jp-layout-color2: {GROUND}; --jp-layout-color3: {GROUND};
        --jp-ui-font-color1: {INK}; --jp-ui-font-color2: {INK}; --jp-ui-font-color3: {QUIET};
        --jp-border-color1: {LINE}; --jp-border-width: 1px; }}  /* what JupyterLab would say */
"""
    + """
img.leaflet-image-layer[src$="-veil"] { filter: brightness(0) invert(0.93); }
img.leaflet-image-layer[src*="#crisp"] { image-rendering: pixelated; }
img.leaflet-tile { width: 257px !important; height: 257px !important;
                   mix-blend-mode: normal !important; }  /* no seams */
:host(:not(.drawing)) .leaflet-draw { display: none; }
"""
)

TEXT_CSS = f"""
:host {{ color: {INK}; font: {rem(13)}/1.45 Roboto, "DejaVu Sans", sans-serif; }}
.quiet {{ color: {QUIET}; }}
.row {{ display: flex; gap: 12px; align-items: center; height: {rem(20)}; white-space: nowrap; }}
.row.small {{ font-size: {rem(11.5)}; gap: 8px; }}
.row > * {{ min-width: 0; overflow: hidden; text-overflow: ellipsis; }}
.legend {{ display: flex; flex-direction: column; height: {rem(56)}; }}
.legend > * {{ flex: none; }}
.legend .failed {{ padding: 1px 10px; line-height: {rem(18)}; max-height: {rem(36)};
                   overflow: hidden; }}
.legend .credit {{ flex: 0 1 auto; overflow-y: auto; font-size: {rem(11.5)};
                   line-height: {rem(17)}; }}
.chip {{ display: inline-flex; align-items: center; gap: 5px; }}
.name {{ overflow: hidden; text-overflow: ellipsis; }}
.swatch {{ width: 12px; height: 12px; border-radius: 3px; display: inline-block; flex: none;
           box-shadow: inset 0 0 0 1px rgba(0,0,0,.18); }}
.strip {{ display: inline-flex; gap: 3px; }}
.strip .swatch {{ flex: 0 1 14px; min-width: 3px; }}
.ramp {{ flex: none; width: 150px; height: 10px; border-radius: 3px; display: inline-block; }}
.flag {{ background: {WARN_GROUND}; color: {WARN}; border-radius: 10px; padding: 0 8px;
         font-weight: 500; white-space: nowrap; }}
.line {{ white-space: nowrap; overflow: clip; text-overflow: ellipsis; }}
.failed {{ background: {FAIL_GROUND}; color: {FAIL}; border-radius: 8px; padding: 8px 12px; }}
.empty {{ background: {GROUND}; color: {QUIET}; border-radius: 8px; padding: 8px 12px; }}
.working {{ color: {QUIET}; }}
b {{ font-weight: 500; }}
.guide {{ display: grid; grid-template-columns: repeat(auto-fit, minmax({rem(230)}, 1fr)); gap: 0 24px; }}
.guide section:last-child {{ grid-column: 1 / -1; margin-top: 14px; }}
.guide h3 {{ margin: 4px 0 6px; font-size: {rem(14)}; font-weight: 500; }}
.guide dl {{ margin: 0; display: grid; grid-template-columns: auto 1fr; gap: 5px 12px; }}
.guide dt {{ font-weight: 500; white-space: nowrap; }}
.guide dd {{ margin: 0; color: {QUIET}; }}
"""

TABS_CSS = f"""
:host(.bk-above) .bk-header {{ border-bottom: 1px solid {LINE}; padding: 0 6px; }}
.bk-tab {{ font: {rem(13.5)} Roboto, "DejaVu Sans", sans-serif !important; color: {QUIET};
          padding: 11px 7px !important; border: 0 !important; background: none !important;
          cursor: pointer; }}
.bk-tab:hover {{ color: {INK}; }}
.bk-tab:focus-visible {{ outline: 2px solid {ACCENT}; outline-offset: -4px; border-radius: 6px; }}
.bk-tab.bk-active {{ color: {ACCENT} !important; font-weight: 500 !important;
                    box-shadow: inset 0 -2px 0 {ACCENT}; }}
"""
