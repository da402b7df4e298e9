"""Starting a chat from the workbench: which model, beside which other one; the work is done in a thread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tuitune.text import printable
from tuitune.workbench.parts.ask import Ask
from tuitune.workbench.parts.confirm import Choice, Confirm

if TYPE_CHECKING:
    from tuitune.workbench.actions import Actions


async def open_chat(app: Actions, model: str = "") -> None:
    """Ask what is still open, start the chat and show it. `model`: what `tuitune chat` takes; "" asks for it."""
    if not model:
        hint = "A run, a folder (checkpoint, adapter, model) or a Hub id."
        model = await app.push_screen_wait(Ask("Chat with", hint, app.seen.runs[0].id if app.seen and app.seen.runs else ""))
        if not model:
            return
    trained = await app.in_thread(lambda: _has_base(model, app.root), failed="No chat")
    if trained is None:
        return
    choices = [Choice("b", "Beside its base", "base")] if trained else []
    choices += [Choice("a", "Alone", "alone"), Choice("o", "Beside another", "other")]
    answer = await app.push_screen_wait(Confirm(f"Chat with {printable(Path(model).name, limit=40)}?", [], choices))
    against = {"base": "base", "alone": None}.get(answer, "")
    if not answer:
        return
    if against == "":
        against = await app.push_screen_wait(Ask("Beside", "Another run, folder or Hub id.")) or None
        if against is None:
            return
    run = await app.in_thread(lambda: _start(model, app.root, against), failed="No chat")
    if run is not None:
        app.watch_folder()
        await app.open_view("chat", run)


def _has_base(model: str, workspace: Path) -> bool:
    """Whether the model was trained from one that is known. UserError when there is no such model."""
    from tuitune.after.source import base_of, find_source
    from tuitune.errors import UserError

    source = find_source(model, workspace)
    try:
        base_of(source)
    except UserError:
        return False
    return True


def _start(model: str, workspace: Path, against: str | None) -> Path:
    from tuitune.after.chat_start import start_chat

    return start_chat(model, workspace, against=against).path
