"""A list of coloured rows of which one can be picked, drawn by the browser from plain data."""

from collections.abc import Callable
from typing import Any

import param
from panel.custom import JSComponent

from app.theme import ACCENT, INK, LINE, QUIET, rem


class Rows(JSComponent):
    """Rows with a square of colour, a name, an optional bar and a note.

    Names reach the page as text, never as markup.
    """

    rows = param.List(
        default=[],
        item_type=dict,
        doc="Each with `name`, `colour`, and optionally `share` (0..1), `fill` (colour of its bar), "
        "`note`, `active`.",
    )

    on_pick: Callable[[int], None] | None = None
    """Called with the number of the row that was clicked."""

    _esm = """
    export function render({ model }) {
      const list = document.createElement('div')
      list.className = 'list'
      list.setAttribute('role', 'listbox')
      const part = (parent, name) => {
        const made = document.createElement('span')
        made.className = name
        parent.append(made)
        return made
      }
      const add = (number) => {
        const item = document.createElement('button')
        item.setAttribute('role', 'option')
        for (const name of ['square', 'name', 'bar', 'note']) part(item, name)
        part(item.children[2], 'fill')
        item.onclick = () => model.send_msg({ pick: number })
        list.append(item)
      }
      const show = (row, item) => {
        const [square, name, bar, note] = item.children
        item.className = row.active ? 'item active' : 'item'
        item.setAttribute('aria-selected', row.active ? 'true' : 'false')
        item.title = row.tip || ''
        square.style.background = row.colour
        name.textContent = row.name
        bar.firstChild.hidden = row.share === undefined
        bar.firstChild.style.width = (100 * (row.share || 0)).toFixed(1) + '%'
        bar.firstChild.style.background = row.fill || row.colour
        note.textContent = row.note || ''
      }
      // in place: a row that was replaced while it is pressed would lose the click, and the focus
      const draw = () => {
        while (list.children.length > model.rows.length) list.lastChild.remove()
        while (list.children.length < model.rows.length) add(list.children.length)
        model.rows.forEach((row, number) => show(row, list.children[number]))
      }
      draw()
      model.on('rows', draw)
      return list
    }
    """

    _stylesheets = [  # noqa: RUF012 -- declared so by the base class
        f"""
        .list {{ display: flex; flex-direction: column; gap: 1px; width: 100%; }}
        .item {{ display: grid; grid-template-columns: 14px minmax(84px, auto) 1fr auto; gap: 9px;
               align-items: center; padding: 5px 8px; border: 0; border-radius: 6px;
               background: none; font: {rem(13)}/1.4 Roboto, "DejaVu Sans", sans-serif; color: {INK};
               text-align: left; cursor: pointer; }}
        .item:focus-visible {{ outline: 2px solid {ACCENT}; outline-offset: -2px; }}
        .item:hover {{ background: {LINE}; }}
        .item.active {{ background: #e2eff3; font-weight: 500; }}
        .square {{ width: 12px; height: 12px; border-radius: 3px;
                  box-shadow: inset 0 0 0 1px rgba(0,0,0,.18); }}
        .fill {{ display: block; height: 8px; border-radius: 4px; min-width: 1px; }}
        .fill[hidden] {{ display: none; }}
        .name {{ overflow: hidden; text-overflow: ellipsis; white-space: nowrap; max-width: 190px; }}
        .note {{ color: {QUIET}; font-variant-numeric: tabular-nums; }}
        """
    ]

    def _handle_msg(self, message: Any) -> None:
        number = message.get("pick") if isinstance(message, dict) else None
        if isinstance(number, int) and 0 <= number < len(self.rows) and self.on_pick is not None:
            self.on_pick(number)
