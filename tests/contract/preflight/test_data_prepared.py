"""Checks of rows as the trainer prepares them: what max_length cuts off, what is trained, pairs that become the same."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.planted import TALK, alarms, check, finding, ids, plant, sound_rows, turns
from tests.support.planted_data import PAIRS, pairs, plant_data
from tuitune.preflight.repair import apply_fixes


def asked(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def test_answers_beyond_max_length_are_an_error_that_a_longer_one_mends(tmp_path: Path, tiny_model: Path) -> None:
    rows = [asked(f"{n} " + "the cat sat on a mat and " * 4, f"it rained on {n} towns by the sea all day") for n in range(24)]
    place = plant(tmp_path, model=tiny_model, rows=rows, training={"max_length": 32, "assistant_only_loss": True})
    found = finding(check(place.recipe), "DAT13")
    assert found.severity == "error"
    assert found.evidence["lost_rows"] == 24
    assert found.fix is not None
    assert not found.fix.automatic
    assert found.evidence["proposed"] % 64 == 0
    apply_fixes(place.recipe, place.recipe.read_text(), [found.fix])
    after = check(place.recipe)
    assert alarms(after) == []
    assert finding(after, "DAT24").evidence["trained_tokens"] > 0


def test_a_few_cut_tokens_are_a_warning(tmp_path: Path, tiny_model: Path) -> None:
    rows = [*sound_rows(30), *(turns(f"tell me {n}", "and the dog ran to the red house by the sea " * 14) for n in range(2))]
    report = check(plant(tmp_path, model=tiny_model, rows=rows, training={"max_length": 128}).recipe)
    found = finding(report, "DAT13")
    assert found.severity == "warning"
    assert finding(report, "DAT14").severity == "info"


def test_rows_beyond_what_the_model_reads_have_no_length_that_would_do(tmp_path: Path, tiny_model: Path) -> None:
    rows = [turns(f"tell me {n}", "and the dog ran to the red house by the sea " * 40) for n in range(12)]
    found = finding(check(plant(tmp_path, model=tiny_model, rows=rows).recipe), "DAT13")
    assert found.fix is None
    assert "256 tokens at most" in found.message


def test_packing_that_splits_loses_nothing(tmp_path: Path, tiny_model: Path) -> None:
    rows = [turns(f"tell me {n}", "and the dog ran to the red house by the sea " * 4) for n in range(24)]
    packed = {"max_length": 64, "packing": True, "packing_strategy": "bfd_split"}
    report = check(plant(tmp_path, model=tiny_model, rows=rows, training=packed).recipe)
    assert not {"DAT13"} & ids(report)
    assert finding(report, "DAT14").severity == "info"


def test_the_number_of_trained_tokens_is_always_told(tmp_path: Path, tiny_model: Path) -> None:
    report = check(plant(tmp_path, model=tiny_model).recipe)
    found = finding(report, "DAT24")
    assert found.severity == "info"
    assert found.evidence["rows"] == 24
    assert found.evidence["trained_tokens"] == found.evidence["tokens"]


def test_nothing_to_train_at_all_is_an_error(tmp_path: Path, tiny_model: Path) -> None:
    rows = [asked("the cat sat on a mat and the dog ran " * 6 + str(n), f"it rained on {n} towns") for n in range(24)]
    found = finding(
        check(plant(tmp_path, model=tiny_model, rows=rows, training={"max_length": 16, "assistant_only_loss": True}).recipe), "DAT24"
    )
    assert found.severity == "error"
    assert found.evidence["trained_tokens"] == 0


def test_rows_that_train_nothing_though_they_are_whole_are_a_warning(tmp_path: Path, tiny_model: Path) -> None:
    """Their completion is a turn that the template does not print."""
    template = tmp_path / "two-roles.jinja"
    template.write_text(
        "{% for m in messages %}{% if m.role in ['user', 'assistant'] %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )

    def row(n: int, role: str) -> dict[str, Any]:
        said = sound_rows(24)[n]["messages"]
        return {"prompt": said[:1], "completion": [{"role": role, "content": said[1]["content"]}]}

    def told(name: str, role: str) -> list[str]:
        (tmp_path / name).mkdir()
        place = plant(
            tmp_path / name,
            model=tiny_model,
            rows=[row(n, "assistant" if n % 4 else role) for n in range(24)],
            columns={"prompt": "prompt", "completion": "completion"},
            tokenizer={"chat_template": str(template)},
        )
        return [found.severity for found in check(place.recipe).findings if found.id == "DAT24"]

    assert told("unprinted", "tool") == ["warning", "info"]
    assert told("printed", "assistant") == ["info"]


def test_a_template_that_never_opens_the_mask_trains_nothing(tmp_path: Path, tiny_model: Path) -> None:
    rows = [{"prompt": row["messages"][:1], "completion": [{"role": "user", "content": "x y"}]} for row in sound_rows()]
    place = plant(
        tmp_path,
        model=tiny_model,
        rows=rows,
        columns={"prompt": "prompt", "completion": "completion"},
        training={"assistant_only_loss": True},
    )
    assert "DAT09" in ids(check(place.recipe), "error")


def test_one_token_answers_among_long_ones_are_told(tmp_path: Path, tiny_model: Path) -> None:
    rows = [asked(f"how is {n}", "the cat sat on a mat and the dog ran to the red house") for n in range(23)]
    rows = [asked(f"{row['messages'][0]['content']}", f"{row['messages'][1]['content']} {n * n * 7}") for n, row in enumerate(rows)]
    report = check(plant(tmp_path, model=tiny_model, rows=[*rows, asked("who", "a")], training={"assistant_only_loss": True}).recipe)
    assert finding(report, "DAT21").severity == "info"
    assert alarms(report) == []


def test_one_row_far_longer_than_the_others_is_told(tmp_path: Path, tiny_model: Path) -> None:
    rows = [*sound_rows(), turns("tell me all", "and the dog ran to the red house by the sea " * 150)]
    report = check(plant(tmp_path, model=tiny_model, rows=rows).recipe)
    assert finding(report, "DAT21").evidence["row"] == 24


def chat_pairs(count: int = 24) -> list[dict[str, Any]]:
    return [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "chosen": [{"role": "assistant", "content": row["chosen"]}],
            "rejected": [{"role": "assistant", "content": row["rejected"]}],
        }
        for row in pairs(count)
    ]


def implicit(row: dict[str, Any]) -> dict[str, Any]:
    return {side: [*row["prompt"], *row[side]] for side in ("chosen", "rejected")}


def same(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "rejected": row["chosen"]}


DPO = {"task": "dpo", "training": {"max_length": 128, "learning_rate": 5e-6}}
PAIR_FAULTS: dict[str, tuple[list[dict[str, Any]], dict[str, str], str, str]] = {
    "few equal pairs": ([*chat_pairs(), same(chat_pairs(25)[24])], PAIRS, "PREF01", "warning"),
    "many equal pairs": ([same(row) if n < 4 else row for n, row in enumerate(chat_pairs())], PAIRS, "PREF01", "error"),
    "no common prompt": (
        [
            *(implicit(row) for row in chat_pairs()),
            {"chosen": [{"role": "assistant", "content": "a b"}], "rejected": [{"role": "assistant", "content": "c d"}]},
        ],
        {"chosen": "chosen", "rejected": "rejected"},
        "PREF02",
        "error",
    ),
    "longer answers preferred": (
        [{**row, "chosen": [{"role": "assistant", "content": row["chosen"][0]["content"] * 3}]} for row in chat_pairs()],
        PAIRS,
        "PREF03",
        "warning",
    ),
    "pairs the other way round": (
        [*chat_pairs(), *({**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in chat_pairs(3))],
        PAIRS,
        "PREF04",
        "warning",
    ),
    "an answer of the user": (
        [*chat_pairs(), {**chat_pairs(30)[29], "chosen": [{"role": "user", "content": "no"}]}],
        PAIRS,
        "PREF05",
        "error",
    ),
}


@pytest.mark.parametrize("name", PAIR_FAULTS)
def test_a_fault_of_pairs_is_found_and_goes_with_its_fix(name: str, tmp_path: Path, tiny_model: Path) -> None:
    rows, columns, id, severity = PAIR_FAULTS[name]
    place = plant_data(tmp_path, tiny_model, rows, columns, **DPO)
    found = finding(check(place.recipe), id)
    assert found.severity == severity
    if found.fix is not None:
        apply_fixes(place.recipe, place.recipe.read_text(), [found.fix])
        assert alarms(check(place.recipe)) == []
    else:
        assert id == "PREF03"


def test_pairs_that_max_length_makes_equal_are_found(tmp_path: Path, tiny_model: Path) -> None:
    shared = "and the dog ran to the red house by the sea " * 6
    rows = [
        {**row, **{side: [{"role": "assistant", "content": shared + row[side][0]["content"]}] for side in ("chosen", "rejected")}}
        for row in chat_pairs()
    ]
    report = check(plant_data(tmp_path, tiny_model, rows, PAIRS, **{**DPO, "training": {"max_length": 48, "learning_rate": 5e-6}}).recipe)
    found = finding(report, "PREF01")
    assert found.severity == "error"
    assert "max_length 48" in found.message


@pytest.mark.parametrize("task", ["dpo", "reward"])
def test_sound_pairs_raise_no_alarm(task: str, tmp_path: Path, tiny_model: Path) -> None:
    rows = [implicit(row) for row in chat_pairs()]
    report = check(plant_data(tmp_path, tiny_model, rows, {"chosen": "chosen", "rejected": "rejected"}, **{**DPO, "task": task}).recipe)
    assert alarms(report) == []
    assert {"PREF03", "PREF04", "PREF05", "DAT15", "DAT16"} <= set(report.ran)


def rated(count: int = 24) -> list[dict[str, Any]]:
    rows = chat_pairs(count)
    return [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"} for row in rows for side in ("chosen", "rejected")
    ]


def test_rated_answers_are_checked_as_they_stand(tmp_path: Path, tiny_model: Path) -> None:
    columns = {"prompt": "prompt", "completion": "completion", "label": "label"}
    report = check(plant_data(tmp_path / "sound", tiny_model, rated(), columns, task="kto", training={"learning_rate": 5e-6}).recipe)
    assert alarms(report) == []
    assert "DAT13" in report.skipped
    report = check(
        plant_data(tmp_path / "twice", tiny_model, [*rated(), *rated(4)], columns, task="kto", training={"learning_rate": 5e-6}).recipe
    )
    assert [line.partition(" ")[0] for line in alarms(report)] == ["DAT15"]


def test_sound_conversations_raise_no_alarm(tmp_path: Path, tiny_model: Path) -> None:
    report = check(
        plant(tmp_path, model=tiny_model, columns=TALK, evaluation=[turns(f"name town {n}", f"town {n * 7}") for n in range(5)]).recipe
    )
    assert alarms(report) == []
