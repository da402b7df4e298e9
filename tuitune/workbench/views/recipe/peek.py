"""The panel below the text that explains the key under the cursor. Never has the keyboard."""

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from tuitune.text import printable


class Peek(VerticalScroll, can_focus=False):
    """Escape closes it; PageUp and PageDown scroll it where the text is longer than the panel."""

    DEFAULT_CSS = """
    Peek { display: none; height: auto; max-height: 40%; padding: 0 1; background: $panel; scrollbar-size: 1 1; }
    Peek > Static { height: auto; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self._text = Static(markup=False)

    @property
    def open(self) -> bool:
        """Whether it is on screen."""
        return bool(self.display)

    def compose(self) -> ComposeResult:
        yield self._text

    def show(self, text: str) -> None:
        """Show a text of any lines."""
        self.text = printable(text, newlines=True)
        self._text.update(self.text)
        self.display = True
        self.scroll_home(animate=False)

    def close(self) -> None:
        """Take it off the screen."""
        self.display = False

    def take_key(self, key: str) -> bool:
        """Whether the key was meant for the panel."""
        if self.open and key == "escape":
            self.close()
            return True
        if self.open and key in ("pageup", "pagedown") and self.max_scroll_y > 0:
            self.scroll_relative(y=(1 if key == "pagedown" else -1) * max(1, self.size.height - 1), animate=False)
            return True
        return False
