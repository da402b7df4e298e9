"""The command bar completes ops, keys and values, as text | Tab → text."""

import pytest

from tests.unit.workbench.live import in_state, running
from tuitune.workbench.live_complete import candidates, complete, wrong


def offered(text: str) -> list[str]:
    return [candidate.word for candidate in candidates(text, running())]


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("ev", "evaluate "),
        ("s", "s"),
        ("sa", "sa"),
        ("sam", "sample "),
        ("set le", "set learning_rate="),
        ("set lr_scheduler=c", "set lr_scheduler=co"),
        ("set lr_scheduler=cos", "set lr_scheduler=cosine "),
        ("set learning_rate=1e-4 k", "set learning_rate=1e-4 kind="),
        ("set learning_rate=1e-4 kind=h", "set learning_rate=1e-4 kind=hold "),
        ("pause mode=s", "pause mode=suspend "),
        ("stop save=f", "stop save=false "),
        ("reshape g", "reshape gradient_accumulation_steps="),
        ("nonsense x", "nonsense x"),
    ],
)
def test_tab_writes_what_is_certain(text: str, after: str) -> None:
    assert complete(text, running()) == after


def test_only_what_the_run_takes_now_is_offered() -> None:
    assert offered("") == ["evaluate", "kill", "pause", "reshape", "sample", "save", "set", "stacks", "stop"]
    assert [candidate.word for candidate in candidates("", in_state("suspended"))] == ["kill", "resume", "stop"]


def test_a_setting_is_offered_with_its_present_value_and_its_curve_only_with_the_rate() -> None:
    found = {candidate.word: candidate.detail for candidate in candidates("set ", running())}
    assert (found["learning_rate="], found["save_steps="]) == ("now 1.00e-4", "now 25")
    assert offered("set learning_rate=1 ") == ["kind=", "steps=", "end="]
    assert offered("set save_steps=5 ") == []


def test_what_is_wrong_with_a_line_is_a_sentence() -> None:
    assert wrong("", running()) == "type a command, e.g. save"
    assert wrong("set 3", running()) == "'3' is not KEY=VALUE"
    assert wrong('sample prompt="a', running()) == "a quotation mark is not closed"
    assert wrong("save", running()) == ""
