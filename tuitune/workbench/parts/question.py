"""A screen over the workbench that returns one answer, however fast the keys come."""

from typing import TypeVar

from textual.await_complete import AwaitComplete
from textual.screen import ModalScreen

Result = TypeVar("Result")


class Question(ModalScreen[Result]):
    """Keys that follow the one that answers may still reach this screen before it is gone; a second dismiss would end the application."""

    _answered = False

    def dismiss(self, result: Result | None = None) -> AwaitComplete:
        """Textual's own, the first time."""
        if self._answered:
            return AwaitComplete()
        self._answered = True
        return super().dismiss(result)
