"""ipyleaflet inside Panel with no outside request, and without leaving widgets behind.

ipywidgets_bokeh loads a widget's browser code from `{cdn}/{package}@{version}/dist/index`, by
default from unpkg.com. Here `cdn` is our own server, which answers from the files that the widget's
wheel installed (`app.routes.WidgetAssets`). ipywidgets also keeps every widget ever made in a
module-level table and in a comm manager; `detach` takes a session's widgets out of both, which
`Widget.close()` alone does not.
"""

from collections.abc import Iterator
from typing import Any

import panel as pn
from bokeh.models import InlineStyleSheet
from comm import get_comm_manager
from ipywidgets import Widget
from ipywidgets.widgets import widget as ipywidgets_core

_DIST = "/static/extensions/panel/"
_DIST_UNSEEN = "/static/extensions/./panel/"
"""The same place, spelt so that Panel does not take it for its own default, whose prefix it loses
(`Location._sync_pathname`)."""

_FONT_AWESOME = "bundled/font-awesome/css/all.min.css"


def load_extensions(prefix: str) -> None:
    """Load Panel's browser code for widgets, with every stylesheet from our own server.

    For served sessions only: inside JupyterLab the `ipywidgets` extension breaks the page.

    Args:
        prefix: URL prefix of the server, without a final slash.
    """
    import panel.io.ipywidget  # noqa: F401 -- puts the cdnjs stylesheet on the model below
    from ipywidgets_bokeh.widget import IPyWidget

    pn.extension("ipywidgets", notifications=False)
    IPyWidget.__css__ = []
    pn.config.css_files = [
        f"{prefix}{_DIST}{_FONT_AWESOME}" if "font-awesome" in str(file) else file
        for file in pn.config.css_files
    ]
    # without it, stylesheets of models that are made or changed later come from Panel's CDN
    pn.state.curdoc.template_variables["dist_url"] = f"{prefix}{_DIST_UNSEEN}"


class LocalLeaflet(pn.pane.IPyLeaflet):
    """A pane for an ipyleaflet map whose browser code comes from our own server."""

    priority = 0.8  # above IPyLeaflet's own 0.7, so that pn.panel(map) chooses this one
    prefix: str = ""
    """URL prefix of the server, without a final slash."""
    css: str = ""
    """Rules for what is inside the map."""

    def _get_ipywidget(self, obj: Widget, doc: Any, root: Any, comm: Any, **kwargs: Any) -> Any:
        model = super()._get_ipywidget(obj, doc, root, comm, **kwargs)
        if "cdn" in model.properties():  # absent from the model that notebooks use
            model.cdn = f"{self.prefix}/widget-assets"
            # the pane's own `stylesheets` do not reach this model
            model.stylesheets = [*model.stylesheets, InlineStyleSheet(css=self.css)]
        return model


def widgets_in(*roots: Widget) -> Iterator[Widget]:
    """Widgets and everything that they refer to (layers, controls, layouts, styles), once each."""
    seen: set[int] = set()
    waiting: list[Any] = list(roots)
    while waiting:
        item = waiting.pop()
        if isinstance(item, Widget):
            if id(item) in seen:
                continue
            seen.add(id(item))
            yield item
            # only what is already there: reading an unset trait would create its default widget
            waiting.extend(item._trait_values.values())
        elif isinstance(item, list | tuple | set):
            waiting.extend(item)
        elif isinstance(item, dict):
            waiting.extend(item.values())


def detach(*roots: Widget) -> int:
    """Let go of widgets and of everything they refer to; returns how many were let go.

    After this no table in ipywidgets or in the comm manager knows them, so that they are freed
    with the session.
    """
    manager = get_comm_manager()
    gone = list(widgets_in(*roots))
    for widget in gone:
        channel = widget.comm
        if channel is not None:
            ipywidgets_core._instances.pop(channel.comm_id, None)
            for table in (manager, getattr(getattr(channel, "kernel", None), "comm_manager", None)):
                if table is not None and channel.comm_id in table.comms:
                    table.unregister_comm(channel)
            channel._closed = True
        widget.comm = None
        widget.unobserve_all()
    return len(gone)


def live_widgets() -> int:
    """How many ipywidgets this process still knows."""
    return len(ipywidgets_core._instances)
