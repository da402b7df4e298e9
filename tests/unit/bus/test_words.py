"""The words of a command, as they are typed after `tuitune send RUN OP` and in the command bar."""

import pytest

from tuitune.bus.words import arguments
from tuitune.errors import UserError


def test_values_are_json_where_they_can_be() -> None:
    assert arguments("stop", ["save=false", "lr=1e-4", "note=hello there"]) == {"save": False, "lr": 1e-4, "note": "hello there"}


def test_a_setting_may_be_named_as_the_key() -> None:
    long = arguments("set", ["key=learning_rate", "value=1e-4", "kind=hold"])
    assert arguments("set", ["learning_rate=1e-4", "kind=hold"]) == long == {"key": "learning_rate", "value": 1e-4, "kind": "hold"}


def test_set_changes_one_thing_at_a_time() -> None:
    with pytest.raises(UserError, match="one thing at a time, not max_steps and save_steps"):
        arguments("set", ["max_steps=9", "save_steps=3"])


@pytest.mark.parametrize("word", ["hold", "=3", ""])
def test_a_word_without_key_and_value_is_refused(word: str) -> None:
    with pytest.raises(UserError, match="is not KEY=VALUE"):
        arguments("set", [word])
