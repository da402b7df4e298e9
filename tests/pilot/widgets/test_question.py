"""A question is answered once, however many keys come before it is gone."""

import pytest
from textual import events
from textual.app import App

from tuitune.workbench.parts.ask import Ask
from tuitune.workbench.parts.confirm import Choice, Confirm


@pytest.mark.parametrize("keys", ["aa", "ab", "\r\r"])
async def test_a_second_key_is_no_second_answer(keys: str) -> None:
    app: App[None] = App()
    answers: list[str | None] = []
    async with app.run_test() as pilot:
        await app.push_screen(Confirm("Really?", [], [Choice("a", "Alone", "alone"), Choice("b", "Both", "both")]), answers.append)
        for key in keys:
            app.post_message(events.Key("enter" if key == "\r" else key, key))
        await pilot.pause()
        assert answers == ["alone"]
        assert len(app.screen_stack) == 1


async def test_every_screen_that_returns_an_answer_is_such_a_question() -> None:
    from tuitune.workbench.parts.picker import Box
    from tuitune.workbench.parts.question import Question
    from tuitune.workbench.views.dataset.mapping_box import MappingBox

    assert all(issubclass(one, Question) for one in (Ask, Box, Confirm, MappingBox))
