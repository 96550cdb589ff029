"""The prototype atlas as rows that unfold, drawn by the browser from plain data."""

from collections.abc import Callable
from typing import Any

import param
from panel.custom import JSComponent

from app.theme import ACCENT, INK, LINE, QUIET, rem

LONGEST = 200
"""Characters of a name that are taken from the page; the library keeps fewer."""


class AtlasRows(JSComponent):
    """A row for each prototype; the one that is picked unfolds.

    A row shows its colour, name, example chips, a small bar per place and its share of the place
    on the map. Unfolded it shows larger chips, a field for its name, what each place has of it,
    and its nearest prototypes. Names reach the page as text, never as markup.
    """

    rows = param.List(
        default=[],
        item_type=dict,
        doc="Each with `number`, `name`, `colour`, `note`, `sheet` (row of the picture or -1), "
        "`count` (chips in it), `bars` ({name, colour, share 0..1, note}), `near` "
        "({number, name, colour, note}).",
    )
    picked = param.Integer(-1, doc="Number of the prototype that is unfolded; -1 for none.")
    sheet = param.Dict(default={}, doc="`url`, `rows`, `columns`, `crisp` of the chips' picture.")

    on_pick: Callable[[int], None] | None = None
    """Called with the number of a prototype that was clicked."""

    on_name: Callable[[int, str], None] | None = None
    """Called with a number and the name that was typed."""

    _esm = """
    export function render({ model }) {
      const list = document.createElement('div')
      list.className = 'atlas'
      const make = (parent, tag, name, text) => {
        const made = document.createElement(tag)
        if (name) made.className = name
        if (text !== undefined) made.textContent = text
        if (parent) parent.append(made)
        return made
      }
      const chips = (parent, row, side) => {
        const { url, rows, columns, crisp } = model.sheet
        for (let column = 0; url && row.sheet >= 0 && column < row.count; column++) {
          const chip = make(parent, 'span', 'chip')
          chip.style.width = chip.style.height = side + 'px'
          chip.style.backgroundImage = `url("${url}")`
          chip.style.backgroundSize = `${columns * side}px ${rows * side}px`
          chip.style.backgroundPosition = `${-column * side}px ${-row.sheet * side}px`
          chip.style.imageRendering = crisp ? 'pixelated' : 'auto'
        }
      }
      const bar = (parent, each) => {
        const track = make(parent, 'span', 'bar')
        track.title = each.name + ': ' + each.note
        const fill = make(track, 'span', 'fill')
        fill.style.width = Math.max(0, Math.min(100, 100 * each.share)).toFixed(1) + '%'
        fill.style.background = each.colour
      }
      const head = (box, row, active) => {
        const item = make(box, 'button', active ? 'item active' : 'item')
        item.dataset.number = row.number
        item.title = active ? 'Let go of it.' : 'Show its cells on the map and what it looks like.'
        item.setAttribute('aria-expanded', active ? 'true' : 'false')
        make(item, 'span', 'square').style.background = row.colour
        make(item, 'span', 'name', row.name)
        chips(make(item, 'span', 'chips'), active ? { ...row, count: 0 } : row, 26)
        const bars = make(item, 'span', 'bars')
        row.bars.forEach(each => bar(bars, each))
        make(item, 'span', 'note', row.note)
        item.onclick = () => model.send_msg({ pick: row.number })
      }
      const detail = (box, row) => {
        const more = make(box, 'div', 'more')
        const big = make(more, 'div', 'chips')
        chips(big, row, 92)
        if (!big.children.length) big.remove()
        const naming = make(more, 'div', 'line')
        const field = make(naming, 'input', 'field')
        field.value = row.name
        field.maxLength = 40
        field.title = 'A name of your own; Enter keeps it. It goes wherever the bank goes.'
        field.setAttribute('aria-label', 'Name of the prototype')
        const keep = make(naming, 'button', 'small', 'Rename')
        const send = () => model.send_msg({ name: row.number, text: field.value })
        keep.onclick = send
        field.onkeydown = event => { if (event.key === 'Enter') send() }
        const table = make(more, 'div', 'table')
        row.bars.forEach(each => {
          make(table, 'span', 'dot').style.background = each.colour
          make(table, 'span', 'name', each.name)
          bar(table, each)
          make(table, 'span', 'note', each.note)
        })
        if (row.near.length) {
          const near = make(more, 'div', 'line near')
          make(near, 'span', 'quiet', 'Nearest')
          row.near.forEach(each => {
            const other = make(near, 'button', 'small')
            other.title = 'Show this one. Cosine between the two prototypes.'
            make(other, 'span', 'square').style.background = each.colour
            make(other, 'span', 'name', each.name)
            make(other, 'span', 'note', each.note)
            other.onclick = () => model.send_msg({ pick: each.number })
          })
        }
      }
      // a row that is not different stays as it is: replaced under the mouse it would lose the click
      const drawn = new Map()
      const draw = () => {
        const wanted = model.rows.map(row => [row, row.number === model.picked])
        const kept = new Set(model.rows.map(row => row.number))
        for (const [number, entry] of [...drawn]) {
          if (!kept.has(number)) { entry.box.remove(); drawn.delete(number) }
        }
        wanted.forEach(([row, active], place) => {
          const key = JSON.stringify([row, active, model.sheet])
          let entry = drawn.get(row.number)
          if (!entry) {
            entry = { box: make(null, 'div', 'box'), key: null }
            drawn.set(row.number, entry)
          }
          if (entry.key !== key) {
            const field = entry.box.querySelector('.field')
            const typing = field && field.getRootNode().activeElement === field
            const typed = typing && entry.name === row.name ? field.value : null
            entry.box.replaceChildren()
            head(entry.box, row, active)
            if (active) detail(entry.box, row)
            if (active && typing) {
              const again = entry.box.querySelector('.field')
              if (typed !== null) again.value = typed
              again.focus()
            }
            const opened = active && !entry.active
            entry.key = key
            entry.active = active
            entry.name = row.name
            if (opened) setTimeout(() => entry.box.scrollIntoView({ block: 'nearest' }), 0)
          }
          if (list.children[place] !== entry.box) list.insertBefore(entry.box, list.children[place] || null)
        })
      }
      draw()
      for (const name of ['rows', 'picked', 'sheet']) model.on(name, draw)
      return list
    }
    """

    _stylesheets = [  # noqa: RUF012 -- declared so by the base class
        f"""
        .atlas {{ display: flex; flex-direction: column; width: 100%;
                 font: {rem(13)}/1.4 Roboto, "DejaVu Sans", sans-serif; color: {INK}; }}
        button {{ font: inherit; color: inherit; border: 0; background: none; cursor: pointer;
                 text-align: left; }}
        button:focus-visible, .field:focus-visible {{ outline: 2px solid {ACCENT}; }}
        .item {{ display: grid; width: 100%; align-items: center; gap: 8px; padding: 2px 6px;
                grid-template-columns: 12px minmax(0, 1fr) auto 78px {rem(44)}; min-height: {rem(31)};
                border-radius: 6px; }}
        .item:hover {{ background: {LINE}; }}
        .item.active {{ background: #e2eff3; font-weight: 500; }}
        .square {{ width: 12px; height: 12px; border-radius: 3px; flex: none;
                  box-shadow: inset 0 0 0 1px rgba(0,0,0,.18); }}
        .dot {{ width: 9px; height: 9px; border-radius: 5px; }}
        .name {{ overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }}
        .note, .quiet {{ color: {QUIET}; font-variant-numeric: tabular-nums; white-space: nowrap; }}
        .item > .note {{ text-align: right; }}
        .chips {{ display: flex; gap: 3px; }}
        .chip {{ border-radius: 3px; background-color: {LINE}; background-repeat: no-repeat;
                position: relative; }}
        .bars {{ display: flex; flex-direction: column; gap: 2px; }}
        .bar {{ display: block; height: 6px; border-radius: 3px; background: {LINE}; }}
        .fill {{ display: block; height: 6px; border-radius: 3px; min-width: 1px; }}
        .more {{ display: flex; flex-direction: column; gap: 9px; padding: 8px 6px 12px 26px; }}
        .more .chips {{ gap: 5px; }}
        .more .chip::after {{ content: ""; position: absolute; left: calc(50% - 4px);
                             top: calc(50% - 4px); width: 6px; height: 6px;
                             border: 1px solid #fff; box-shadow: 0 0 0 1px rgba(0,0,0,.5); }}
        .line {{ display: flex; flex-wrap: wrap; gap: 6px; align-items: center; }}
        .field {{ font: inherit; color: inherit; width: 190px; padding: 4px 8px; background: #fff;
                 border: 1px solid #b9c5ce; border-radius: 6px; }}
        .small {{ display: inline-flex; align-items: center; gap: 6px; padding: 4px 8px;
                 border: 1px solid {LINE}; border-radius: 6px; max-width: 180px; }}
        .small:hover {{ background: {LINE}; }}
        .table {{ display: grid; grid-template-columns: 9px minmax(0, 110px) 70px auto;
                 gap: 3px 8px; align-items: center; font-size: {rem(12)}; }}
        """
    ]

    def _handle_msg(self, message: Any) -> None:
        if not isinstance(message, dict):
            return
        numbers = {row["number"] for row in self.rows}
        pick, name, text = (message.get(key) for key in ("pick", "name", "text"))
        if type(pick) is int and pick in numbers and self.on_pick is not None:
            self.on_pick(pick)
        if (
            type(name) is int
            and name in numbers
            and isinstance(text, str)
            and self.on_name is not None
        ):
            self.on_name(name, text[:LONGEST])
