"""The forgetting probe: its texts, when it speaks, and what a resumed run compares with."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tuitune.bus.journal import Journal
from tuitune.errors import UserError
from tuitune.trainer.forgetting import ForgettingProbe, first_probe, probe_of
from tuitune.trainer.watching import Log


def losses(**skills: float) -> dict[str, float]:
    return {f"forgetting/{skill}": loss for skill, loss in skills.items()} | {"forgetting": sum(skills.values()) / len(skills)}


def test_the_builtin_texts_are_as_many_of_every_skill(tmp_path: Path) -> None:
    probe = probe_of({"forgetting_probe": "builtin"}, tmp_path)
    assert probe is not None
    skills = Counter(text.skill for text in probe.texts)
    assert skills == dict.fromkeys(("facts", "arithmetic", "code", "reasoning", "instructions", "prose", "languages"), 6)
    assert len({text.text for text in probe.texts}) == 42
    assert max(len(text.text) for text in probe.texts) < 200
    assert [step for step in range(1, 120) if probe.due(step)] == [50, 100]


def test_a_file_of_ones_own_is_read_from_where_the_recipe_lies(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("one text\n\nanother\n")
    (tmp_path / "own.jsonl").write_text('{"text": "a", "skill": "law"}\n{"text": "b"}\n')
    plain, marked = (probe_of({"forgetting_probe": name, "every": 5}, tmp_path) for name in ("own.txt", "own.jsonl"))
    assert plain is not None
    assert marked is not None
    assert [(text.skill, text.text) for text in plain.texts] == [("texts", "one text"), ("texts", "another")]
    assert [text.skill for text in marked.texts] == ["law", "texts"]
    assert plain.due(5)
    assert probe_of({"prompts": ["a"]}, tmp_path) is None
    assert probe_of(None, tmp_path) is None


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.txt", None, "gone.txt cannot be read"),
        ("empty.txt", "\n\n", "has 0 texts"),
        ("long.txt", "text\n" * 501, "has 501 texts"),
        ("bad.jsonl", '{"text": "a"}\n{"prompt": "b"}\n', "bad.jsonl:2 is no JSON object with a `text`"),
        ("bad.jsonl", '["a"]\n', "bad.jsonl:1 is no JSON object"),
        ("bad.jsonl", '{"text": 7}\n', "bad.jsonl:1 is no JSON object"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_sentence(tmp_path: Path, name: str, content: str | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=words):
        probe_of({"forgetting_probe": name}, tmp_path)


def test_it_speaks_once_a_skill_until_the_skill_is_back() -> None:
    probe = ForgettingProbe([], 50)
    assert probe.look(Log(0, 2.0), losses(code=1.0, facts=3.0)) is None, "the first measurement is what later ones are held against"
    assert probe.look(Log(50, 2.0), losses(code=1.05, facts=3.2)) is None
    alarm = probe.look(Log(100, 2.0), losses(code=1.3, facts=3.0))
    assert alarm is not None
    assert (alarm.kind, alarm.step, alarm.pauses) == ("forgetting", 100, False)
    assert "code 1.00 → 1.30" in alarm.text
    assert "facts" not in alarm.text
    assert probe.look(Log(150, 2.0), losses(code=1.4, facts=3.0)) is None
    later = probe.look(Log(200, 2.0), losses(code=1.4, facts=3.6))
    assert later is not None
    assert "facts 3.00 → 3.60" in later.text
    assert probe.look(Log(250, 2.0), losses(code=1.0, facts=3.0)) is None
    assert probe.look(Log(300, 2.0), losses(code=1.4, facts=3.0)) is not None


def test_a_resumed_run_compares_with_what_the_first_attempt_measured(tmp_path: Path) -> None:
    assert first_probe(tmp_path / "journal") is None
    for attempt, step in ((1, 0), (2, 50)):
        journal = Journal(tmp_path / "journal" / f"trainer-{attempt}.jsonl")
        journal.emit("probe", step=step, metrics={"forgetting/code": 1.0 + step})
        journal.close()
    assert first_probe(tmp_path / "journal") == {"forgetting/code": 1.0}
    assert json.loads((tmp_path / "journal" / "trainer-1.jsonl").read_text())["ev"] == "probe"
