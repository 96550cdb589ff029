"""A list of coloured rows of which one can be picked, drawn by the browser from plain data."""

from collections.abc import Callable
from typing import Any

import param
from panel.custom import JSComponent

from app.theme import INK, LINE, QUIET


class Rows(JSComponent):
    """Rows with a square of colour, a name, an optional bar and a note.

    Names reach the page as text, never as markup.
    """

    rows = param.List(
        default=[],
        item_type=dict,
        doc="Each with `name`, `colour`, and optionally `share` (0..1), `note`, `active`.",
    )

    on_pick: Callable[[int], None] | None = None
    """Called with the number of the row that was clicked."""

    _esm = """
    export function render({ model }) {
      const list = document.createElement('div')
      list.className = 'list'
      list.setAttribute('role', 'listbox')
      const draw = () => {
        list.replaceChildren(...model.rows.map((row, number) => {
          const item = document.createElement('button')
          item.className = row.active ? 'item active' : 'item'
          item.setAttribute('role', 'option')
          item.setAttribute('aria-selected', row.active ? 'true' : 'false')
          item.title = row.tip || ''
          const square = document.createElement('span')
          square.className = 'square'
          square.style.background = row.colour
          const name = document.createElement('span')
          name.className = 'name'
          name.textContent = row.name
          const bar = document.createElement('span')
          bar.className = 'bar'
          if (row.share !== undefined) {
            const fill = document.createElement('span')
            fill.style.width = (100 * row.share).toFixed(1) + '%'
            fill.style.background = row.colour
            bar.append(fill)
          }
          const note = document.createElement('span')
          note.className = 'note'
          note.textContent = row.note || ''
          item.append(square, name, bar, note)
          item.onclick = () => model.send_msg({ pick: number })
          return item
        }))
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
               background: none; font: 13px/1.4 Roboto, "DejaVu Sans", sans-serif; color: {INK};
               text-align: left; cursor: pointer; }}
        .item:hover {{ background: {LINE}; }}
        .item.active {{ background: #e2eff3; font-weight: 500; }}
        .square {{ width: 12px; height: 12px; border-radius: 3px;
                  box-shadow: inset 0 0 0 1px rgba(0,0,0,.18); }}
        .bar span {{ display: block; height: 8px; border-radius: 4px; min-width: 1px; }}
        .name {{ overflow: hidden; text-overflow: ellipsis; white-space: nowrap; max-width: 190px; }}
        .note {{ color: {QUIET}; font-variant-numeric: tabular-nums; }}
        """
    ]

    def _handle_msg(self, message: Any) -> None:
        number = message.get("pick") if isinstance(message, dict) else None
        if isinstance(number, int) and 0 <= number < len(self.rows) and self.on_pick is not None:
            self.on_pick(number)
