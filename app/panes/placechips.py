"""The places in use as chips, drawn by the browser from plain data."""

from collections.abc import Callable
from typing import Any

import param
from panel.custom import JSComponent

from app.theme import ACCENT, INK, LINE, QUIET, rem


class PlaceChips(JSComponent):
    """A chip for each place: a dot of its colour, its name, and a cross that closes it.

    The dot is full where the place is encoded, beats while it is being encoded, and is hollow
    before. Names reach the page as text, never as markup.
    """

    chips = param.List(
        default=[],
        item_type=dict,
        doc="Each with `key`, `name`, `colour`, `standing`, `active`, `closes`, `tip`.",
    )

    on_open: Callable[[str], None] | None = None
    """Called with the key of the chip that was clicked."""

    on_close: Callable[[str], None] | None = None
    """Called with the key of the chip whose cross was clicked."""

    _esm = """
    export function render({ model }) {
      const list = document.createElement('div')
      list.className = 'chips'
      list.setAttribute('role', 'list')
      list.setAttribute('aria-label', 'Places in use')
      const add = () => {
        const chip = document.createElement('span')
        chip.setAttribute('role', 'listitem')
        const open = document.createElement('button')
        open.className = 'open'
        const dot = document.createElement('span')
        const name = document.createElement('span')
        name.className = 'name'
        open.append(dot, name)
        const close = document.createElement('button')
        close.className = 'close'
        close.textContent = '×'
        chip.append(open, close)
        open.onclick = () => model.send_msg({ open: chip.dataset.key })
        close.onclick = () => model.send_msg({ close: chip.dataset.key })
        list.append(chip)
      }
      const show = (row, chip) => {
        const [open, close] = chip.children
        chip.dataset.key = row.key
        chip.className = row.active ? 'chip active' : 'chip'
        chip.style.setProperty('--own', row.colour)
        open.title = row.tip
        open.setAttribute('aria-pressed', row.active ? 'true' : 'false')
        open.children[0].className = 'dot ' + row.standing.replace(' ', '-')
        open.children[1].textContent = row.name
        close.hidden = !row.closes
        close.title = 'Close: take this chip away. What was encoded stays for later.'
        close.setAttribute('aria-label', 'Close ' + row.name)
      }
      const draw = () => {
        while (list.children.length > model.chips.length) list.lastChild.remove()
        while (list.children.length < model.chips.length) add()
        model.chips.forEach((row, number) => show(row, list.children[number]))
        const active = list.querySelector('.active')
        if (active) active.scrollIntoView({ block: 'nearest', inline: 'nearest' })
      }
      draw()
      model.on('chips', draw)
      return list
    }
    """

    _stylesheets = [  # noqa: RUF012 -- declared so by the base class
        f"""
        .chips {{ display: flex; gap: 6px; align-items: center; height: {rem(30)}; overflow-x: auto;
                 scrollbar-width: thin; }}
        .chip {{ display: inline-flex; align-items: center; flex: none; height: {rem(26)};
                border: 1px solid {LINE}; border-radius: {rem(13)}; background: #fff; }}
        .chip.active {{ border-color: var(--own); box-shadow: 0 0 0 1px var(--own); }}
        button {{ border: 0; background: none; font: {rem(13)}/1 Roboto, "DejaVu Sans", sans-serif;
                 color: {INK}; cursor: pointer; padding: 0; border-radius: 13px; }}
        button:focus-visible {{ outline: 2px solid {ACCENT}; }}
        .open {{ display: inline-flex; align-items: center; gap: 7px; height: {rem(24)};
                padding: 0 8px 0 9px; }}
        .active .open {{ font-weight: 500; }}
        .close {{ color: {QUIET}; font-size: {rem(15)}; width: 20px; height: {rem(24)}; margin-left: -6px; }}
        .close:hover {{ color: {INK}; }}
        .close[hidden] {{ display: none; }}
        .name {{ max-width: {rem(150)}; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }}
        .dot {{ box-sizing: border-box; width: 11px; height: 11px; border-radius: 6px; flex: none;
               border: 2.5px solid var(--own); }}
        .dot.encoded {{ background: var(--own); }}
        .dot.working {{ animation: beat 1s ease-in-out infinite alternate; }}
        @keyframes beat {{ to {{ background: var(--own); }} }}
        @media (prefers-reduced-motion: reduce) {{ .dot.working {{ animation: none; }} }}
        """
    ]

    def _handle_msg(self, message: Any) -> None:
        if not isinstance(message, dict):
            return
        keys = {row["key"] for row in self.chips}
        for what, call in (("open", self.on_open), ("close", self.on_close)):
            key = message.get(what)
            if isinstance(key, str) and key in keys and call is not None:
                call(key)
