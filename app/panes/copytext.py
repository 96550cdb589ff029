"""A text to copy, with the button that does it, drawn by the browser."""

import param
from panel.custom import JSComponent

from app.theme import ACCENT, INK, LINE


class CopyText(JSComponent):
    """A text that can be read, selected and copied, never markup."""

    text = param.String("", doc="What is copied.")
    rows = param.Integer(3, bounds=(1, 40), doc="Lines that are seen at once.")

    _esm = """
    export function render({ model }) {
      const box = document.createElement('div')
      const area = document.createElement('textarea')
      area.readOnly = true
      area.spellcheck = false
      area.setAttribute('aria-label', 'Text to copy')
      const copy = document.createElement('button')
      copy.textContent = 'Copy'
      copy.title = 'Copy all of it'
      const show = () => {
        area.value = model.text
        area.rows = model.rows
        copy.textContent = 'Copy'
      }
      copy.onclick = async () => {
        area.select()
        try {
          await navigator.clipboard.writeText(model.text)
          copy.textContent = 'Copied'
        } catch {
          copy.textContent = document.execCommand('copy') ? 'Copied' : 'Press Ctrl+C'
        }
      }
      box.append(area, copy)
      show()
      model.on('text', show)
      model.on('rows', show)
      return box
    }
    """

    _stylesheets = [  # noqa: RUF012 -- declared so by the base class
        f"""
        textarea {{ box-sizing: border-box; width: 100%; resize: vertical; color: {INK};
                   border: 1px solid {LINE}; border-radius: 6px; padding: 8px;
                   font: 12px/1.5 "DejaVu Sans Mono", monospace; }}
        button {{ border: 1px solid {ACCENT}; color: {ACCENT}; background: #fff; cursor: pointer;
                 border-radius: 6px; padding: 6px 16px; margin-top: 8px;
                 font: 500 13px Roboto, "DejaVu Sans", sans-serif; }}
        """
    ]
