"""What the dataset view's threads tell it."""

from typing import Any

from textual.message import Message

from tuitune.workbench.parts.role_lines import Line


class Whole(Message):
    """The row under the cursor has come, broken into lines."""

    def __init__(self, answer: dict[str, Any], raw: list[Line], made: list[Line], era: int) -> None:
        super().__init__()
        self.answer, self.raw, self.made, self.era = answer, raw, made, era


class Mapped(Message):
    """A recipe says what this file's columns are for."""

    def __init__(self, columns: dict[str, str] | None, words: str) -> None:
        super().__init__()
        self.columns, self.words = columns, words


class Touched(Message):
    """The file on disk is another one, or gone."""

    def __init__(self, gone: bool) -> None:
        super().__init__()
        self.gone = gone
