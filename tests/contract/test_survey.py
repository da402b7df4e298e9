"""The survey of a whole set says what the trainer will train on: its hash is that of the trainer's own dataset, its counts are right."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_inspection import CHAT, COMBINATIONS
from tests.support.tiny_model import write_conversations, write_rows
from tuitune.errors import UserError


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("survey")
    write_conversations(folder / "train.jsonl")
    return folder


def recipe(
    model: Path, folder: Path, columns: str, training: dict[str, Any], *, task: str = "sft", file: str = "train.jsonl", more: str = ""
):
    from tuitune.recipe.recipe import load_recipe

    path = folder / "recipe.yaml"
    path.write_text(
        f"task: {task}\nmodel: {{name_or_path: {model}}}\ndataset:\n  train: [{{path: {file}, columns: {columns}}}]\n{more}"
        f"training: {json.dumps({'max_length': 32, **training})}\n"
    )
    return load_recipe(path)


def survey(loaded):
    from tuitune.analyst.render_watch import RenderWatch
    from tuitune.analyst.survey import survey

    return survey(loaded, RenderWatch(), lambda text: None)


def trainers_own(loaded):
    """The real trainer's dataset, as in training (its model is hollow, which its rows do not depend on)."""
    from tuitune.analyst.hollow import hollow_model
    from tuitune.trainer.build import assemble, begin, make_config, make_tokenizer

    built = begin(loaded)
    tokenizer = make_tokenizer(built)
    assemble(built, make_config(built, loaded.base), tokenizer, hollow_model(built, tokenizer), None)
    return built


PAIRWISE = [COMBINATIONS[12 * form + 4 * ((form + packing) % 3) + packing] for form in range(4) for packing in range(4)]


@pytest.mark.parametrize(("columns", "loss", "packing"), PAIRWISE)
def test_the_hash_is_that_of_the_trainers_own_rows(tiny_model: Path, workspace: Path, columns: str, loss: dict, packing: dict) -> None:
    from tuitune.trainer.prepared import describe

    loaded = recipe(tiny_model, workspace, columns, {**loss, **packing})
    refused = ""
    try:
        data = describe(trainers_own(loaded))
    except UserError as error:
        refused = str(error)
    if refused:
        with pytest.raises(UserError, match=re.escape(refused)):
            survey(loaded)
        return
    found = survey(loaded)
    assert found.difference == ""
    assert found.prepared_by == "quick"
    assert found.sha256 == data["sha256"]
    assert found.trained == data["trained_tokens"]
    assert found.tokens - found.lost == data["tokens"]
    if not packing:
        assert found.counts["dropped"] == data["dropped"]
    else:
        assert found.packing is not None
        assert (found.packing.sequences, found.packing.filled) == (data["sequences"], data["tokens"])


@pytest.mark.parametrize("more", [{"shuffle_dataset": True}, {"truncation_mode": "keep_end"}, {"shuffle_dataset": True, "packing": True}])
def test_shuffling_and_cutting_at_the_other_end_keep_the_hash(tiny_model: Path, workspace: Path, more: dict) -> None:
    from tuitune.trainer.prepared import describe

    loaded = recipe(tiny_model, workspace, CHAT, {"max_length": 24, **more})
    assert survey(loaded).sha256 == describe(trainers_own(loaded))["sha256"]


def test_preference_pairs_keep_the_hash_and_are_cut_by_the_collator(tiny_model: Path, workspace: Path) -> None:
    from tuitune.trainer.prepared import describe

    rows = [json.loads(line) for line in (workspace / "train.jsonl").read_text().splitlines()]
    pairs = [{"prompt": row["question"], "chosen": row["answer"], "rejected": row["question"]} for row in rows]
    (workspace / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    loaded = recipe(
        tiny_model,
        workspace,
        "{prompt: prompt, chosen: chosen, rejected: rejected}",
        {"max_length": 12},
        task="dpo",
        file="pairs.jsonl",
    )
    found = survey(loaded)
    built = trainers_own(loaded)
    assert found.sha256 == describe(built)["sha256"]
    batches = [built.trainer.data_collator([example]) for example in built.trainer.train_dataset]
    assert found.trained == sum(int(batch["completion_mask"].sum()) for batch in batches)
    assert found.tokens - found.lost == sum(int(batch["attention_mask"].sum()) for batch in batches)
    assert found.counts["dropped"] == len(pairs) - len(batches)


def test_many_rows_go_through_several_processes_in_their_order(tiny_model: Path, workspace: Path) -> None:
    from tuitune.analyst import shards
    from tuitune.trainer.prepared import describe

    write_rows(workspace / "many.jsonl", 3 * shards.FEWEST)
    loaded = recipe(tiny_model, workspace, CHAT, {}, file="many.jsonl")
    found = survey(loaded)
    assert found.sha256 == describe(trainers_own(loaded))["sha256"]
    assert sum(found.histograms["all"].counts) == found.total == 3 * shards.FEWEST


def test_roles_are_counted_as_the_inspection_attributes_them(tiny_model: Path, workspace: Path) -> None:
    from tuitune.analyst.inspection import inspect

    loaded = recipe(tiny_model, workspace, "{messages: messages}", {"max_length": 512})
    found = survey(loaded)
    inspection = inspect(loaded)
    roles = [
        (inspection.names[role] if inspection.names[source] == "content" else "template")
        for row in inspection.rows
        for tokens in row.sequences
        for role, source in zip(tokens.roles, tokens.sources)
    ]
    assert found.by_role == {role: roles.count(role) for role in sorted(set(roles))}
    assert sum(found.by_role.values()) == found.tokens


def test_faults_name_the_rows(tiny_model: Path, workspace: Path) -> None:
    lines = (workspace / "train.jsonl").read_text().splitlines()
    long = json.dumps({**json.loads(lines[0]), "answer": "one two three " * 40})
    (workspace / "faults.jsonl").write_text("\n".join([*lines[:10], lines[3], long]) + "\n")
    (workspace / "eval.jsonl").write_text(lines[5] + "\n")
    loaded = recipe(
        tiny_model,
        workspace,
        CHAT,
        {"max_length": 64},
        file="faults.jsonl",
        more="  eval: [{path: eval.jsonl, columns: " + CHAT + "}]\n",
    )
    found = survey(loaded)
    assert found.faults["duplicate"] == [10]
    assert found.faults["overlap"] == [5]
    assert found.faults["truncated"] == [11]
    assert found.longest_row == 11
    assert found.counts == {"truncated": 1, "dropped": 0, "masked": 0, "duplicate": 1, "overlap": 1}


@pytest.mark.parametrize("bad", [3, 577], ids=["beside the sample", "in the sample"])
def test_a_row_on_which_the_template_fails_is_named_with_its_place(tiny_model: Path, workspace: Path, bad: int) -> None:
    (workspace / "raises.jinja").write_text(
        "{% for m in messages %}{% if 'seven' in m.content %}{{ raise_exception('no seven here') }}{% endif %}{{ m.content }}{% endfor %}"
    )
    rows = [{"question": "one", "answer": "two"}] * 600
    rows[bad] = {"question": "seven", "answer": "two"}
    (workspace / "sevens.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = recipe(tiny_model, workspace, CHAT, {}, file="sevens.jsonl", more="tokenizer: {chat_template: raises.jinja}\n")
    with pytest.raises(UserError, match=rf"sevens.jsonl:{bad + 1}: this row cannot be prepared: .*no seven here"):
        survey(loaded)


def test_a_difference_is_told_and_trls_own_preparation_is_used(tiny_model: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tuitune.analyst import whole_set
    from tuitune.trainer.prepared import describe

    def wrong(tokenizer: Any) -> Any:
        quick = whole_set_quick(tokenizer)
        original = type(quick).__call__

        def call(self: Any, text: Any = None, **options: Any) -> Any:
            answer = original(self, text, **options)
            answer["input_ids"] = [*answer["input_ids"][:-1], 5]
            return answer

        type(quick).__call__ = call
        return quick

    whole_set_quick = whole_set.quick
    monkeypatch.setattr(whole_set, "quick", wrong)
    loaded = recipe(tiny_model, workspace, CHAT, {})
    found = survey(loaded)
    assert found.prepared_by == "trl"
    assert found.difference == "the quick preparation differs from TRL's in input_ids of the sample's sequence 0"
    assert found.sha256 == describe(trainers_own(loaded))["sha256"]


def test_a_column_that_is_missing_is_a_difference() -> None:
    """Else there would be nothing to compare, and nothing would be wrong."""
    from datasets import Dataset

    from tuitune.analyst.proven_set import differs

    truth = Dataset.from_dict({"input_ids": [[1, 2]], "labels": [[1, 2]], "text": ["one"]})
    assert differs(truth, truth) == ""
    for names in (["input_ids"], ["text"]):
        assert "of a row, TRL input_ids, labels" in differs(truth, truth.select_columns(names))
    assert "differs from TRL's in labels" in differs(truth, Dataset.from_dict({"input_ids": [[1, 2]], "labels": [[-100, 2]]}))


@pytest.mark.parametrize(("strategy", "apart"), [("bfd", "yes"), ("bfd_split", "yes"), ("wrapped", "no")])
def test_whether_packed_documents_see_each_other_is_tried(tiny_model: Path, workspace: Path, strategy: str, apart: str) -> None:
    found = survey(recipe(tiny_model, workspace, CHAT, {"packing": True, "packing_strategy": strategy}))
    assert found.packing is not None
    assert found.packing.apart == apart
    assert found.packing.wasted == found.packing.sequences * 32 - found.packing.filled


def test_a_run_says_whether_it_trains_on_what_was_looked_at(tiny_model: Path, tmp_path: Path) -> None:
    """First promise: the hash of the survey and that of the trainer's `data` event are compared at run start."""
    from tests.contract.test_training import LORA, recipe
    from tests.support.runs import train
    from tuitune.recipe.recipe import load_recipe

    write_rows(tmp_path / "train.jsonl")
    text = recipe(tiny_model, LORA, training="max_steps: 1")
    before = train(tmp_path, text)
    assert before.of("data")[0]["inspected"] == "not looked at"
    (tmp_path / "recipe.yaml").write_text(text.replace("1.0e-3", "2.0e-3"))  # what does not change the rows is no other recipe
    survey(load_recipe(tmp_path / "recipe.yaml"))
    same = train(tmp_path, text)
    assert same.of("data")[0]["inspected"] == "same"
    assert not same.of("warning")
    write_rows(tmp_path / "train.jsonl", 47)
    changed = train(tmp_path, text)
    assert changed.of("data")[0]["inspected"] == "data changed"
    assert "has changed since its rows were last looked at" in changed.of("warning")[0]["text"]


def test_other_rows_from_the_same_data_are_a_warning(tiny_model: Path, tmp_path: Path) -> None:
    from tuitune.dataset.looked_at import compare, remember

    write_rows(tmp_path / "train.jsonl", 4)
    loaded = recipe(tiny_model, tmp_path, CHAT, {})
    remember(loaded, "data", "rows")
    assert compare(loaded, "data", "rows") == ("same", "")
    verdict, sentence = compare(loaded, "data", "other rows")
    assert verdict == "different"
    assert "not those that the inspection showed" in sentence
    loaded.training["max_length"] = 31
    assert compare(loaded, "data", "other rows") == ("not looked at", "")


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("one two", [0]),
        ("/qu[ie]+st/", [3]),
        ("duplicate", [10]),
        ("truncated", [11]),
        ("nowhere", []),
        ("unknown", []),
    ],
)
def test_all_rows_are_searched_for_faults_texts_and_patterns(tiny_model: Path, tmp_path: Path, what: str, expected: list[int]) -> None:
    from tuitune.analyst.find import find
    from tuitune.analyst.render_watch import RenderWatch

    rows = [{"question": f"number {number}", "answer": "yes"} for number in range(10)]
    rows[0]["answer"], rows[3]["question"] = "one two", "quest"
    rows += [rows[7], {"question": "long", "answer": "word " * 60}]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = find(recipe(tiny_model, tmp_path, CHAT, {"max_length": 48}), what, RenderWatch(), lambda text: None)
    assert found == {"rows": expected, "count": len(expected), "looked": 12, "total": 12}


def test_rows_are_found_by_a_token_id(tiny_model: Path, workspace: Path) -> None:
    from tuitune.analyst.find import find
    from tuitune.analyst.inspection import inspect
    from tuitune.analyst.render_watch import RenderWatch

    loaded = recipe(tiny_model, workspace, CHAT, {"max_length": 512})
    rows = {row.row: set(row.sequences[0].ids) for row in inspect(loaded).rows}
    token = next(token for token in sorted(rows[0]) if 0 < sum(token in ids for ids in rows.values()) < len(rows))
    found = find(loaded, f"#{token}", RenderWatch(), lambda text: None)
    assert found["rows"] == sorted(row for row, ids in rows.items() if token in ids)


def test_a_pattern_that_is_none_says_why(tiny_model: Path, workspace: Path) -> None:
    from tuitune.analyst.find import matcher

    with pytest.raises(UserError, match=r"/\(/ is no pattern: missing \)"):
        matcher("/(/")


def test_a_trainer_may_change_the_twin_of_a_tokenizer(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    from tuitune.analyst.proven_set import twin

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    before = (tokenizer.pad_token, tokenizer.eos_token, tokenizer.chat_template, dict(tokenizer.special_tokens_map))
    made = twin(tokenizer)
    made.pad_token = made.eos_token = made.convert_ids_to_tokens(5)
    made.chat_template = "{{ messages }}"
    assert (tokenizer.pad_token, tokenizer.eos_token, tokenizer.chat_template, dict(tokenizer.special_tokens_map)) == before
    assert made("one")["input_ids"] == tokenizer("one")["input_ids"]
