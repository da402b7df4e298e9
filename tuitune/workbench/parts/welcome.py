"""What the editor area shows while nothing is open: how to get on from here."""

from textual.content import Content
from textual.widget import Widget

from tuitune.workbench.commands import registry

HINTS = ("quick.open", "quick.commands", "view.side_bar", "view.runs", "view.panel", "focus.next", "app.help", "app.quit")


class Welcome(Widget):
    """Centred; a line of its own when the folder holds no recipe."""

    def __init__(self) -> None:
        super().__init__()
        self.note = ""

    def say(self, note: str) -> None:
        """Put a sentence (printable) above the keys."""
        if note != self.note:
            self.note = note
            self.refresh()

    def render(self) -> Content:
        lines = [Content.styled("tuitune", "bold $primary"), Content("")]
        if self.note:
            lines += [Content(self.note), Content("")]
        width = max(len(registry.key_label(registry.by_id(name).keys[0])) for name in HINTS)
        for name in HINTS:
            command = registry.by_id(name)
            key = registry.key_label(command.keys[0]).rjust(width)
            lines.append(Content.assemble((f"{key}  ", "bold $foreground"), (command.title.ljust(24), "$text-muted")))
        return Content("\n").join(lines)
