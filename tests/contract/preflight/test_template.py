"""Checks of the chat template: every fault is found, its clean twin is left alone, and a repair leaves nothing behind."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.support import templates as t
from tests.support.planted import CARD, Place, alarms, check, finding, ids, plant, sound_box
from tests.support.templates import having, said, small, talks, template_of
from tuitune.analyst.render_watch import STUCK
from tuitune.errors import UserError
from tuitune.preflight.preflight import Report, preflight
from tuitune.preflight.repair import apply_fixes

MASKED = {"assistant_only_loss": True}
ASKED, ANSWERED = ("user", "How much is {n}?"), ("assistant", "It is {n} and no more.")
SYSTEM = talks(("system", "Be brief, reader {n}."), ASKED, ANSWERED)
TWICE = talks(ASKED, ("user", "Say it."), ANSWERED)
MISNAMED = talks(("Human", "How much is {n}?"), ("GPT", "It is {n} and no more."))
THOUGHT = talks(
    ASKED, ANSWERED, ("user", "And one more?"), ("assistant", "One more than {n} is next."), reasoning_content="I count to {n} first."
)
INLINE = talks(
    ASKED, ("assistant", "<think>\nI count to {n}.\n</think>\n\nIt is {n}."), ("user", "And more?"), ("assistant", "Then {n} and one.")
)
THOUGHT_ONCE = talks(ASKED, ANSWERED, reasoning_content="I count to {n} first.")
LONG_ANSWER = (
    "The tool gave back seven{n}, so the answer to your question is seven{n}, and that holds for every way of counting that I know."
)
CALLED = [
    {
        "messages": [
            said("user", f"How much is {n}?"),
            said("assistant", "", tool_calls=[t.CALL]),
            said("tool", f"seven{n}"),
            said("assistant", LONG_ANSWER.replace("{n}", str(n))),
        ]
    }
    for n in range(24)
]
UNSAID = [{"messages": [turn if "tool_calls" not in turn else {**turn, "content": None} for turn in row["messages"]]} for row in CALLED]
INDENTED = talks(ASKED, ("assistant", "    return {n}\n"))
TRAILING = talks(ASKED, ("assistant", "It is {n} and no more.\n"))
PAIRS = [{"s": "Be brief.", "q": f"{n}?", "a": f"It is {n}."} for n in range(24)]
END, UNUSED = 2, 0  # <|im_end|> and <|endoftext|> of the tiny model
LONG, GEMMAS_END = {"max_length": 256}, {"eos_token": "<end_of_turn>"}
KWARGS = "chat_template_kwargs"
PINNED = [{**row, KWARGS: {"date_string": "1 May 2025"}} for row in talks(ASKED, ANSWERED)]
STRINGS = {"prompt": "prompt", "completion": "completion"}


def merging(prompt: str, answer: str) -> list[dict[str, Any]]:
    return [{"prompt": f"How much is {n}? Answer:{prompt}", "completion": f"{answer} {n}"} for n in range(24)]


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return t.model_with_markers(tiny_model, tmp_path_factory.mktemp("markers") / "model")


def without_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def without_row(token: int) -> Any:
    """The row of this token in the embedding is zeros."""

    def change(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        weights["model.embed_tokens.weight"][token] = 0
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return change


def only_named(*names: str) -> Any:
    def change(folder: Path) -> None:
        without_template(folder)
        (folder / "additional_chat_templates").mkdir()
        for name in names:
            (folder / "additional_chat_templates" / f"{name}.jinja").write_text(t.PLAIN)

    return change


def configured(template: str) -> Any:
    def change(folder: Path) -> None:
        file = folder / "tokenizer_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": template}))
        (folder / "chat_template.jinja").write_text(t.PLAIN)

    return change


def of(name: str) -> Any:
    """The template of a real model, looked up when the test runs."""
    return lambda folder: having(template_of(name))(folder)


# (id, what is planted, its severity)
FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("TPL01", {"change": without_template}, "error"),
    ("TPL02", {"change": only_named("rag", "tool_use")}, "error"),
    ("TPL03", {"change": having(t.PLAIN), "training": MASKED}, "error"),
    ("TPL04", {"change": having(t.NO_END)}, "error"),
    ("TPL04", {"change": having(t.END_OUTSIDE), "training": MASKED}, "warning"),
    ("TPL05", {"change": having(t.THINKING)}, "warning"),
    (
        "TPL05",
        {
            "change": having(t.THINKING),
            "rows": PAIRS,
            "columns": {"user": "q", "assistant": "a"},
        },
        "warning",
    ),
    ("TPL06", {"rows": merging(" ", "the dog"), "columns": STRINGS}, "warning"),
    ("TPL07", {"change": of("qwen3"), "rows": THOUGHT}, "warning"),
    ("TPL07", {"change": of("qwen3"), "rows": INLINE}, "warning"),
    ("TPL07", {"change": of("gemma"), "rows": THOUGHT_ONCE}, "warning"),
    ("TPL08", {"change": of("gemma"), "rows": CALLED}, "error"),
    ("TPL08", {"change": of("llama3_1"), "rows": CALLED}, "error"),
    ("TPL08", {"change": of("deepseek_v3"), "rows": CALLED}, "error"),
    ("TPL09", {"change": of("gemma"), "rows": SYSTEM}, "error"),
    ("TPL10", {"change": of("gemma"), "rows": TWICE}, "error"),
    ("TPL11", {"change": of("qwen3"), "rows": MISNAMED}, "error"),
    ("TPL11", {"change": of("llama3_1"), "rows": MISNAMED}, "error"),
    ("TPL11", {"change": of("qwen3"), "rows": talks(ASKED, ("critic", "Really {n}?"), ANSWERED)}, "error"),
    ("TPL12", {"change": of("llama3")}, "warning"),
    ("TPL13", {"change": having(t.OTHER_END)}, "warning"),
    ("TPL14", {"change": of("llama3_1"), "rows": INDENTED}, "warning"),
    ("TPL14", {"change": of("gemma"), "rows": TRAILING}, "info"),
    ("TPL15", {"change": having(t.DATED)}, "warning"),
    ("TPL15", {"change": having(t.STANDING)}, "info"),
    ("TPL15", {"change": of("gpt_oss")}, "info"),
    ("TPL16", {"change": configured(t.THINKING)}, "warning"),
    ("TPL17", {"change": of("qwen3"), "rows": UNSAID}, "info"),
    ("TPL18", {"change": having(t.ALL_MARKED), "training": MASKED}, "warning"),
    ("TPL18", {"change": having(t.NOTHING_MARKED), "training": MASKED}, "error"),
    ("TPL19", {"change": of("qwen2_5.jinja"), "training": MASKED}, "info"),
    ("TPL20", {"change": without_row(END)}, "warning"),
]
# what looks like a fault and is none; the ids that may not be found
SOUND: list[tuple[str, dict[str, Any]]] = [
    ("TPL01", {"change": without_template, "rows": merging("", " the dog"), "columns": STRINGS}),
    ("TPL02", {"change": only_named("rag", "default")}),
    ("TPL03", {"training": MASKED}),
    ("TPL03 TPL04 TPL18", {"change": of("gemma.jinja"), "training": MASKED}),
    ("TPL05", {"change": of("qwen3"), "rows": THOUGHT_ONCE}),
    ("TPL06", {"rows": merging("", " the dog"), "columns": STRINGS}),
    ("TPL07", {"change": of("qwen3"), "rows": THOUGHT_ONCE}),
    ("TPL08 TPL11", {"change": of("qwen3"), "rows": CALLED}),
    ("TPL09 TPL11", {"change": of("gemma3"), "rows": SYSTEM}),
    ("TPL10", {"rows": TWICE}),
    ("TPL11", {"rows": [{"messages": [{"from": "human", "value": f"{n}?"}, {"from": "gpt", "value": f"It is {n}."}]} for n in range(24)]}),
    ("TPL12 TPL13", {"change": having(t.BRACKETS)}),
    ("TPL14", {"rows": INDENTED}),
    ("TPL15", {"change": having(t.DATED), "rows": PINNED, "columns": {"messages": "messages", KWARGS: KWARGS}}),
    ("TPL16", {"change": configured(f"{t.PLAIN}\r\n")}),
    ("TPL17", {"change": of("qwen3"), "rows": CALLED}),
    ("TPL19", {"training": MASKED}),
    ("TPL20", {"change": without_row(UNUSED)}),
]


@pytest.mark.parametrize(("id", "planted", "severity"), FAULTS, ids=[f"{number}-{id}" for number, (id, *_) in enumerate(FAULTS)])
def test_a_planted_fault_is_found(tmp_path: Path, model: Path, id: str, planted: Mapping[str, Any], severity: str) -> None:
    report = check(plant(tmp_path, model=model, **planted).recipe)
    found = finding(report, id)
    assert found.severity == severity
    assert found.where.file
    assert found.evidence
    assert "PRE01" not in ids(report), "a fault that stops the preparation is told once"


@pytest.mark.parametrize(("id", "planted"), SOUND, ids=[f"{number}-{id}" for number, (id, _) in enumerate(SOUND)])
def test_what_only_looks_like_it_is_left_alone(tmp_path: Path, model: Path, id: str, planted: Mapping[str, Any]) -> None:
    report = check(plant(tmp_path, model=model, **planted).recipe)
    assert ids(report).isdisjoint(id.split())
    assert [alarm for alarm in alarms(report) if alarm.startswith("TPL")] == []


@pytest.mark.parametrize("name", ["smollm2", "llama3_1", "llama2", "deepseek_v3", "qwen3"])
def test_real_tokenizers_raise_no_alarm(tmp_path: Path, name: str) -> None:
    rows = talks(ASKED, ANSWERED, ("user", "And {n} more?"), ("assistant", "That is enough."))
    report = check(plant(tmp_path, model=small(name, tmp_path / "small"), rows=rows).recipe)
    assert [found.id for found in report.findings if found.id.startswith("TPL")] == []
    assert "TPL05" in report.ran


def repaired(place: Place, report: Report, id: str) -> Report:
    fix = finding(report, id).fix
    assert fix is not None
    apply_fixes(place.recipe, report.text, [fix])
    return check(place.recipe)


REPAIRABLE = [
    ("TPL01", {"change": without_template}),
    ("TPL02", {"change": only_named("rag")}),
    ("TPL03", {"change": having(t.PLAIN), "training": MASKED}),
    ("TPL04", {"change": having(t.END_OUTSIDE), "training": MASKED}),
    ("TPL07", {"change": of("qwen3"), "rows": THOUGHT, "training": LONG}),
    ("TPL07", {"change": of("qwen3.jinja"), "rows": THOUGHT, "training": LONG}),
    ("TPL09", {"change": of("gemma"), "tokenizer": GEMMAS_END, "rows": SYSTEM}),
    ("TPL09", {"change": of("gemma"), "tokenizer": GEMMAS_END, "rows": PAIRS, "columns": {"system": "s", "user": "q", "assistant": "a"}}),
    ("TPL10", {"change": of("gemma"), "tokenizer": GEMMAS_END, "rows": TWICE}),
    ("TPL11", {"change": of("qwen3"), "rows": MISNAMED}),
    ("TPL15", {"change": having(t.DATED)}),
    ("TPL15", {"change": having(t.STANDING)}),
    ("TPL17", {"change": of("qwen3"), "rows": UNSAID, "training": LONG}),
]


@pytest.mark.parametrize(("id", "planted"), REPAIRABLE, ids=[f"{number}-{id}" for number, (id, _) in enumerate(REPAIRABLE)])
def test_after_its_repair_the_fault_is_gone_and_no_other_is_there(tmp_path: Path, model: Path, id: str, planted: Mapping[str, Any]) -> None:
    place = plant(tmp_path, model=model, **planted)
    after = repaired(place, check(place.recipe), id)
    assert id not in ids(after)
    assert alarms(after) == []


def test_a_template_that_does_not_return_is_told_with_its_file(tmp_path: Path, model: Path) -> None:
    class Ended:
        """The analyst, when its server has ended a render."""

        def request(self, op: str, args: dict[str, Any], **hooks: Any) -> dict[str, Any]:
            raise UserError(STUCK)

    (tmp_path / "loops.jinja").write_text("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")
    for number, (section, file) in enumerate([({}, "model/chat_template.jinja"), ({"chat_template": "../loops.jinja"}, "loops.jinja")]):
        (folder := tmp_path / str(number)).mkdir()
        place = plant(folder, model=model, tokenizer=section)
        found = finding(preflight(place.recipe, Ended(), CARD, look=sound_box), "PRE01")
        assert found.where.file.endswith(file)
        assert "did not return within 2 s" in found.message


def test_where_the_next_turn_ends_an_answer_it_is_trained_when_there_is_one(tmp_path: Path, model: Path) -> None:
    header = t.NO_END.replace("<|im_start|>{{ m['role'] }}", "{{ '<|im_end|>' if m['role'] == 'user' else '<|im_start|>' }}")
    once, twice = talks(ASKED, ANSWERED), talks(ASKED, ANSWERED, ASKED, ANSWERED)
    found = []
    for number, rows in enumerate((once, twice)):
        (folder := tmp_path / str(number)).mkdir()
        report = check(plant(folder, model=model, change=having(header), rows=rows).recipe)
        found.append([found.severity for found in report.findings if found.id == "TPL04"])
    assert found == [["warning"], []]


def test_rows_of_the_evaluation_are_looked_at_too(tmp_path: Path, model: Path) -> None:
    place = plant(tmp_path, model=model, change=of("gemma"), evaluation=SYSTEM, training={"eval_strategy": "epoch"})
    report = check(place.recipe)
    found = finding(report, "TPL09")
    assert found.where.file.endswith("eval.jsonl")
    assert found.where.split == "eval"
    assert "TPL09" not in ids(repaired(place, report, "TPL09"))


def test_both_sides_of_preference_pairs_are_looked_at(tmp_path: Path, model: Path) -> None:
    rows = [
        {
            "prompt": [said("user", f"How much is {n}?")],
            "chosen": [said("assistant", f"It is {n}.")],
            "rejected": [said("assistant", f"No idea about {n}.", reasoning_content="hm") if n == 7 else said("assistant", f"No {n}.")],
        }
        for n in range(24)
    ]
    columns = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
    report = check(plant(tmp_path, model=model, task="dpo", rows=rows, columns=columns, training={"learning_rate": 1e-6}).recipe)
    assert finding(report, "TPL07").evidence["rows"] == [7]
    assert {id for id in ids(report, "error", "warning") if id.startswith("TPL")} == {"TPL07"}


def test_a_repair_names_only_the_sources_that_need_it(tmp_path: Path, model: Path) -> None:
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in SYSTEM))
    sound = talks(ASKED, ANSWERED)
    place = plant(tmp_path, model=model, change=of("gemma"), rows=sound)
    text = place.recipe.read_text()
    more = "  - path: more.jsonl\n    columns:\n      messages: messages\n"
    place.recipe.write_text(text.replace("training:\n", f"{more}training:\n", 1))
    fix = finding(check(place.recipe), "TPL09").fix
    assert fix is not None
    assert [(copy.split, copy.source) for copy in fix.copies] == [("train", 1)]
