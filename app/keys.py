"""What the whole window hears and how large its type is: shortcuts, held keys, focus on tabs."""

from collections.abc import Callable
from typing import Any

import param
from panel.custom import JSComponent

from app.flow import Flow
from app.state import COMBINE, DRAWING_PLACE
from app.theme import LARGER, ROOT

STEP = 0.1
"""How much the opacity changes with a key."""

WORDS = (
    "let-go", "undo", "redo", "label", "inspect", "select", "fainter", "stronger", "guide",
    "erase", "live",
    *(f"class-{number}" for number in range(1, 10)),
)  # fmt: skip
"""What the browser may say that a key meant."""


class Keys(JSComponent):
    """Listens to the window, but never while somebody types, nor in a dialog or a menu.

    It also tells which key is held when a drag begins, lets *Enter* turn to a tab that has the
    focus, sets the size of type, to which everything on the page is relative, and tells the map when
    the layout gives it another size.
    """

    large = param.Boolean(False, doc="Larger type.")
    root = param.Number(ROOT * LARGER, constant=True, doc="One `rem` when type is large (pixels).")

    on_key: Callable[[str], None] | None = None
    """Called with one of `WORDS`."""
    on_hold: Callable[[str], None] | None = None
    """Called with `add`, `remove` or nothing when a drag begins with another key held."""

    _esm = """
    const PLAIN = {
      Escape: 'let-go', b: 'label', e: 'erase', i: 'inspect', l: 'live', s: 'select',
      '[': 'fainter', ']': 'stronger', '?': 'guide',
    }
    const TYPED = ['text', 'search', 'number', 'password', 'email', 'url', 'tel', 'date']
    const NAMED = '.bk-tab, .bk-events, input[type=range], button'
    const deep = (root, found, wanted) => {
      for (const element of root.querySelectorAll('*')) {
        if (element.matches(wanted)) found.push(element)
        if (element.shadowRoot) deep(element.shadowRoot, found, wanted)
      }
      return found
    }
    const nameParts = () => {  // for those who hear the page; Bokeh names neither tabs nor plots
      for (const part of deep(document, [], NAMED)) {
        if (part.matches('.bk-tab')) {
          part.parentElement.setAttribute('role', 'tablist')
          part.setAttribute('role', 'tab')
          part.setAttribute('aria-selected', String(part.matches('.bk-active')))
        } else if (part.matches('button')) {  // one around a line of text that it cannot see
          const line = part.querySelector('.bk-panel-models-markup-HTML')
          if (line && !part.innerText.trim()) part.setAttribute('aria-label', 'About this cell')
        } else if (part.matches('.bk-events')) {
          part.setAttribute('aria-label', 'Plot')
        } else if (!part.getAttribute('aria-label')) {
          part.setAttribute('aria-label', 'Opacity')
        }
      }
    }
    const typing = (event) => {
      const target = event.composedPath()[0]
      if (!(target instanceof HTMLElement)) return false
      return target.isContentEditable || ['TEXTAREA', 'SELECT'].includes(target.tagName)
        || (target.tagName === 'INPUT' && TYPED.includes(target.type))
    }
    const elsewhere = (event) => event.composedPath().some((element) =>
      element.getAttribute
      && ['dialog', 'menu', 'presentation'].includes(element.getAttribute('role')))
    const meant = (event) => {
      const command = event.ctrlKey || event.metaKey
      const key = event.key.length === 1 ? event.key.toLowerCase() : event.key
      if (event.getModifierState('AltGraph')) return PLAIN[key]
      if (command && !event.altKey) {
        if (key === 'z') return event.shiftKey ? 'redo' : 'undo'
        return key === 'y' ? 'redo' : undefined
      }
      if (command || event.altKey) return undefined
      return /^[1-9]$/.test(key) ? `class-${key}` : PLAIN[key]
    }
    const watched = new ResizeObserver(() => window.dispatchEvent(new Event('resize')))
    const watchMap = () => {  // Leaflet hears of the window's size only
      const map = deep(document, [], '.leaflet-container')[0]
      if (map) watched.observe(map)
      else setTimeout(watchMap, 500)
    }
    export function render({ model }) {
      let held = ''
      const press = (event) => {
        const target = event.composedPath()[0]
        if (target.classList?.contains('bk-tab') && ['Enter', ' '].includes(event.key)) {
          event.preventDefault()
          target.click()
          nameParts()
          return
        }
        if (event.defaultPrevented || typing(event) || elsewhere(event)) return
        const word = meant(event)
        if (word === undefined) return
        if (event.ctrlKey || event.metaKey) event.preventDefault()
        model.send_msg({ key: word })
      }
      const hold = (event) => {
        const now = event.shiftKey ? 'add' : event.altKey ? 'remove' : ''
        if (now === held) return
        held = now
        model.send_msg({ held })
      }
      const size = () => {
        document.documentElement.style.fontSize = model.large ? `${model.root}px` : ''
        document.documentElement.classList.toggle('large', model.large)
        window.dispatchEvent(new Event('resize'))
      }
      const heard = [['keydown', press], ['pointerdown', hold, true], ['focusin', nameParts]]
      for (const each of heard) window.addEventListener(...each)
      model.on('remove', () => {
        for (const each of heard) window.removeEventListener(...each)
      })
      model.on('large', size)
      size()
      watchMap()
      return document.createElement('span')
    }
    """

    def _handle_msg(self, message: Any) -> None:
        said = message if isinstance(message, dict) else {}
        if said.get("key") in WORDS and self.on_key is not None:
            self.on_key(said["key"])
        if said.get("held") in ("", *COMBINE) and self.on_hold is not None:
            self.on_hold(said["held"])


def listen(keys: Keys, flow: Flow, show_guide: Callable[[], None]) -> None:
    """Connect the window with the verbs of a session."""
    state = flow.state
    verbs: dict[str, Callable[[], Any]] = {
        "let-go": lambda: let_go(flow),
        "undo": flow.labels.undo,
        "redo": flow.labels.redo,
        "label": lambda: setattr(state, "mode", "label"),
        "inspect": lambda: setattr(state, "mode", "inspect"),
        "select": lambda: setattr(state, "mode", "select"),
        "erase": lambda: flow.labels.choose_tool("erase"),
        "live": lambda: flow.labels.set_live(not state.live),
        "fainter": lambda: fade(flow, -STEP),
        "stronger": lambda: fade(flow, STEP),
        "guide": show_guide,
    }

    def pressed(word: str) -> None:
        if word.startswith("class-"):
            flow.labels.pick(int(word.removeprefix("class-")) - 1)
        elif word in verbs:
            verbs[word]()

    keys.on_key = pressed
    keys.on_hold = flow.selecting.held
    state.param.watch(lambda event: setattr(keys, "large", event.new), "large")


def let_go(flow: Flow) -> None:
    """Leave the drawing of a place; else forget the selection."""
    if flow.state.mode == DRAWING_PLACE:
        flow.state.mode = "inspect"
    else:
        flow.select(None)


def fade(flow: Flow, by: float) -> None:
    """Change the opacity of the layer on top, within 0..1."""
    flow.state.opacity = min(1.0, max(0.0, round(flow.state.opacity + by, 2)))
