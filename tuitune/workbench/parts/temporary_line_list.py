from collections.abc import Sequence

from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option


class LineList(OptionList):
    class Chosen(Message):
        def __init__(self, sender, index):
            super().__init__()
            self.sender = sender
            self.index = index

    class Moved(Message):
        def __init__(self, sender, index):
            super().__init__()
            self.sender = sender
            self.index = index

    def show(self, lines: Sequence[Content], disabled=()):
        keep = self.highlighted
        self.clear_options()
        self.add_options([Option(line, disabled=i in disabled) for i, line in enumerate(lines)])
        if lines:
            self.highlighted = min(keep or 0, len(lines) - 1)

    @property
    def cursor(self):
        return self.highlighted if self.highlighted is not None else -1

    @cursor.setter
    def cursor(self, v):
        self.highlighted = v

    def on_option_list_option_selected(self, e):
        e.stop()
        self.post_message(self.Chosen(self, e.option_index))

    def on_option_list_option_highlighted(self, e):
        e.stop()
        self.post_message(self.Moved(self, e.option_index))
