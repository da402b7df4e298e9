"""The template view by keys, with an analyst that answers at once: source and render, turns, rows, comparison, markers, writing."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.pilot.editor.driver import Driver, editing
from tuitune.errors import UserError
from tuitune.template.document import (
    ComparedRow,
    Comparison,
    Conversation,
    Difference,
    Fault,
    Marking,
    RenderedRow,
    Source,
    TemplateReport,
    Turn,
)
from tuitune.template.spans import Span
from tuitune.workbench import analysis
from tuitune.workbench.views.template_view import TemplateView

SOURCE = Source("{% for m in messages %}\n{{ m.content }}\x1b[2J\n{% endfor %}", "the tokenizer of M", "ab" * 32, False)
OTHER = Source("{% for m in messages %}{{ m }}{% endfor %}", "other.jinja", "cd" * 32, False)


def talk(text: str, faults: list[Fault] | None = None) -> Conversation:
    spans = [Span(0, 5, "user", "content"), Span(5, len(text), "assistant", "content")]
    turns = [Turn("user", end=5), Turn("assistant", end=len(text), prompt=5)]
    return Conversation("input", text, 9, spans, turns, faults or [], answers=[(5, len(text))])


FAULT = Fault(2, "turns", "text", Difference(5, "before", "after"))
ROWS = [
    RenderedRow(0, "/d/train.jsonl", 1, [talk("Ask0?Answer 0.")]),
    RenderedRow(1, "/d/train.jsonl", 2, [talk("Ask1?Answer 1.", [FAULT])]),
    RenderedRow(5, "/d/train.jsonl", 9, [Conversation("input", error="TemplateError: roles must alternate")]),
]
REPORT = TemplateReport(SOURCE, 40, 3, ROWS)
COMPARED = Comparison(
    OTHER,
    "--- a\n+++ b\n@@ -1 +1 @@\n-{{ m.content }}\n+{{ m }}",
    [
        ComparedRow(0, "input"),
        ComparedRow(1, "input", Difference(5, "Answer", "Reply"), Difference(3, "7 8", "9"), "Ask1?Reply 1."),
        ComparedRow(5, "input", error="UndefinedError: no"),
    ],
)
MARKED = Marking("{% generation %}x{% endgeneration %}", "--- a\n+++ b\n+{% generation %}", None, 40, 40, 400, 40, 40)


class FakeAnalyst:
    """Answers as the real one does, or raises what it is given."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.error: Exception | None = None
        self.marking = MARKED
        self.report = REPORT
        self.hold = threading.Event()
        self.hold.set()

    def request(self, op: str, args: dict[str, Any], *, progress: Callable[[str], None], cancel: threading.Event) -> dict[str, Any]:
        assert op == "template"
        self.asked.append(args)
        progress("rendering rows")
        self.hold.wait(10)
        if self.error is not None:
            raise self.error
        found = self.report
        if args.get("other"):
            found = msgspec.structs.replace(found, comparison=COMPARED)
        if args.get("mark"):
            found = msgspec.structs.replace(found, rows=[], marking=self.marking)
        return msgspec.to_builtins(found, str_keys=True)


@pytest.fixture
def analyst(monkeypatch: pytest.MonkeyPatch) -> FakeAnalyst:
    fake = FakeAnalyst()
    monkeypatch.setattr(analysis, "analyst_of", lambda app: fake)
    return fake


async def opened(driver: Driver) -> TemplateView:
    await driver.press("shift+f7")
    await driver.until(lambda: isinstance(driver.app.editor.active, TemplateView))
    view = driver.app.editor.active
    assert isinstance(view, TemplateView)
    return view


async def shown(driver: Driver) -> TemplateView:
    view = await opened(driver)
    await driver.until(lambda: "Ask0?Answer 0." in driver.screen)
    return view


def said(view: TemplateView) -> str:
    """What stands above and below the panes, however it is broken into lines."""
    return " ".join(f"{view._head.text()} {view._foot.text()}".split())


async def test_shift_f7_shows_the_source_beside_the_render_of_the_first_row(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe) as driver:
        view = await shown(driver)
        assert analyst.asked == [{"recipe": str(recipe)}]
        screen = driver.screen
        assert "the tokenizer of M · sha256 abababababab" in screen
        assert "2 {{ m.content }}" in screen
        assert "\x1b" not in screen, "shown, not obeyed"
        assert "fails in 1 of 3 conversations" in said(view)
        assert "not rendered: 1" in said(view)
        assert "row 0" in screen
        assert "9 tokens" in screen


async def test_n_p_and_f_go_through_rows_and_say_what_fails(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe) as driver:
        view = await shown(driver)
        await driver.press("f")
        assert "Ask1?Answer 1." in driver.screen
        assert "from character 5 on: 'before' became 'after'" in said(view)
        await driver.press("n")
        assert "TemplateError: roles must alternate" in driver.screen
        await driver.press("n")
        assert "Ask0?" in driver.screen
        await driver.press("p")
        assert "roles must alternate" in driver.screen


async def test_brackets_step_through_turns(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe) as driver:
        view = await shown(driver)
        assert "2 turns, each begins with the render before it" in driver.screen
        await driver.press("right_square_bracket")
        assert "turn 1 of 2: user" in driver.screen
        assert "Answer 0." not in driver.screen
        await driver.press("right_square_bracket")
        assert "turn 2 of 2: assistant" in driver.screen
        assert "Ask0?Answer 0." in driver.screen
        await driver.press("left_square_bracket", "left_square_bracket")
        assert view.turns == 0
        assert "2 turns, each" in driver.screen


async def test_d_asks_for_the_other_template_and_shows_where_rows_differ(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe) as driver:
        view = await shown(driver)
        await driver.press("d")
        await driver.question("Ask")
        await driver.press("end", *(["backspace"] * len("training")), *"a.b", "enter")
        await driver.until(lambda: view.mode == "diff")
        assert analyst.asked[-1] == {"recipe": str(recipe), "other": "a.b"}
        await driver.until(lambda: "+{{ m }}" in driver.screen)
        assert "conversations: 1 the same, 2 different (1 in tokens), 1 not rendered by the other" in said(view)
        assert "against other.jinja" in driver.screen
        await driver.press("f")
        assert "- Ask1?Answer 1." in driver.screen
        assert "+ Ask1?Reply 1." in driver.screen
        assert "character 5: 'Answer' and 'Reply'; token 3" in said(view)
        await driver.press("f")
        assert "UndefinedError: no" in said(view)
        await driver.press("escape")
        assert "2 {{ m.content }}" in driver.screen


async def test_leaving_the_question_asks_nothing(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe) as driver:
        view = await shown(driver)
        await driver.press("d")
        await driver.question("Ask")
        await driver.press("escape")
        await driver.until(lambda: len(driver.app.screen_stack) == 1)
        assert (view.mode, len(analyst.asked)) == ("source", 1)


async def marked(driver: Driver) -> TemplateView:
    view = await shown(driver)
    await driver.press("g")
    await driver.until(lambda: view.mode == "marking")
    await driver.until(lambda: "proven on 40 of 40 conversations" in said(view))
    return view


async def test_g_shows_proof_and_difference_and_writes_nothing(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe) as driver:
        view = await marked(driver)
        assert analyst.asked[-1] == {"recipe": str(recipe), "mark": True, "rows": []}
        assert "+{% generation %}" in driver.screen
        assert "turns without a token that ends them: 40" in said(view)
        assert "w write it beside the recipe" in said(view)
        assert list(recipe.parent.glob("*.jinja")) == []
        await driver.press("w")
        await driver.question("Confirm")
        await driver.press("escape")
        await driver.until(lambda: len(driver.app.screen_stack) == 1)
        assert list(recipe.parent.glob("*.jinja")) == []


@pytest.mark.parametrize(("key", "used"), [("f", False), ("b", True)])
async def test_w_writes_the_file_and_only_when_wanted_the_recipe(recipe: Path, analyst: FakeAnalyst, key: str, used: bool) -> None:
    async with editing(recipe) as driver:
        await marked(driver)
        before = recipe.read_text()
        await driver.press("w")
        await driver.question("Confirm")
        await driver.press(key)
        await driver.until(lambda: "r.generation.jinja is written" in driver.told)
        assert (recipe.parent / "r.generation.jinja").read_text() == MARKED.text
        assert recipe.read_text() == before + ("tokenizer:\n  chat_template: r.generation.jinja\n" if used else "")


async def test_a_file_that_is_there_is_never_written_over(recipe: Path, analyst: FakeAnalyst) -> None:
    async with editing(recipe) as driver:
        await marked(driver)
        (recipe.parent / "r.generation.jinja").write_text("mine")
        await driver.press("w")
        await driver.question("Confirm")
        await driver.press("b")
        await driver.until(lambda: "holds something else" in driver.told)
        assert (recipe.parent / "r.generation.jinja").read_text() == "mine"
        assert "chat_template" not in recipe.read_text()


async def test_a_refused_marking_says_why_and_cannot_be_written(recipe: Path, analyst: FakeAnalyst) -> None:
    analyst.marking = Marking(refused="line 3 prints the answer and something else as one value")
    async with editing(recipe) as driver:
        view = await shown(driver)
        await driver.press("g")
        await driver.until(lambda: view.mode == "marking")
        await driver.until(lambda: "no markers: line 3 prints the answer" in said(view))
        await driver.press("w")
        await driver.until(lambda: "There is no marked template to write" in driver.told)


async def test_a_failure_is_shown_and_r_asks_again(recipe: Path, analyst: FakeAnalyst) -> None:
    analyst.error = UserError("row 0: the template did not come to an end within 2 s")
    async with editing(recipe) as driver:
        await opened(driver)
        await driver.until(lambda: "did not come to an end" in driver.screen)
        analyst.error = None
        await driver.press("r")
        await driver.until(lambda: "Ask0?Answer 0." in driver.screen)


async def test_a_note_without_rows_is_shown_beside_the_source(recipe: Path, analyst: FakeAnalyst) -> None:
    analyst.report = TemplateReport(SOURCE, 3, 0, [], "the rows are plain text: no template is applied to them")
    async with editing(recipe) as driver:
        await opened(driver)
        await driver.until(lambda: "no template is applied" in driver.screen)
        assert "{{ m.content }}" in driver.screen
        await driver.press("n", "f", "right_square_bracket", "s")
        assert "{{ m.content }}" in driver.screen


async def test_leaving_withdraws_the_request(recipe: Path, analyst: FakeAnalyst) -> None:
    analyst.hold.clear()
    async with editing(recipe) as driver:
        view = await opened(driver)
        await driver.until(lambda: "rendering rows" in driver.screen)
        await driver.press("ctrl+w")
        await driver.until(lambda: view._cancel.is_set())
        analyst.hold.set()


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 15), (200, 50)])
async def test_every_size_shows_source_render_and_result(recipe: Path, analyst: FakeAnalyst, size: tuple[int, int]) -> None:
    async with editing(recipe, size=size) as driver:
        await shown(driver)
        await driver.until(lambda: "{% for m in messages %}" in driver.screen)
        assert "prefix test" in driver.screen
        assert "row 0" in driver.screen
