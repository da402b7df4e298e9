"""What `inspect` shows is what TRL trains on: ids and labels equal those of TRL alone, and every token is attributed or says unknown."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.inspected_rows import sequences
from tests.support.tiny_model import write_conversations

CHAT = "{user: question, assistant: answer}"
COMBINATIONS = [
    (columns, loss, packing)
    for columns in (CHAT, "{messages: messages}", "{prompt: question, completion: answer}", "{text: answer}")
    for loss in ({}, {"completion_only_loss": False}, {"assistant_only_loss": True})
    for packing in (
        {},
        {"packing": True},
        {"packing": True, "packing_strategy": "bfd_split"},
        {"packing": True, "packing_strategy": "wrapped"},
    )
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    write_conversations(folder / "train.jsonl")
    return folder


def inspect(
    model: Path, folder: Path, columns: str, training: dict[str, Any], task: str = "sft", file: str = "train.jsonl"
) -> dict[str, Any]:
    from tuitune.analyst.document import as_json
    from tuitune.analyst.inspection import inspect as inspect_recipe
    from tuitune.recipe.recipe import load_recipe

    path = folder / "recipe.yaml"
    path.write_text(
        f"task: {task}\nmodel: {{name_or_path: {model}}}\ndataset:\n  train: [{{path: {file}, columns: {columns}}}]\n"
        f"training: {json.dumps({'max_length': 32, **training})}\n"
    )
    return as_json(inspect_recipe(load_recipe(path)))


def plain_trl(model: Path, folder: Path, columns: str, training: dict[str, Any]) -> list[tuple[list[int], list[int]]]:
    """(ids, labels) of every sequence that SFTTrainer prepares; nothing of tuitune."""
    import datasets
    import transformers
    import trl

    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    if columns == CHAT:
        rows = [
            {"prompt": [{"role": "user", "content": r["question"]}], "completion": [{"role": "assistant", "content": r["answer"]}]}
            for r in rows
        ]
    elif "messages" in columns:
        rows = [{"messages": row["messages"]} for row in rows]
    elif "prompt" in columns:
        rows = [{"prompt": row["question"], "completion": row["answer"]} for row in rows]
    else:
        rows = [{"text": row["answer"]} for row in rows]
    trainer = trl.SFTTrainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(model),
        args=trl.SFTConfig(output_dir=str(folder / "out"), use_cpu=True, bf16=False, **{"max_length": 32, **training}),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=transformers.AutoTokenizer.from_pretrained(model),
    )
    return list(zip(trainer.train_dataset["input_ids"], trainer.train_dataset["labels"]))


@pytest.mark.parametrize(("columns", "loss", "packing"), COMBINATIONS)
def test_ids_and_labels_are_those_of_trl_alone(tiny_model: Path, workspace: Path, columns: str, loss: dict, packing: dict) -> None:
    from tuitune.errors import UserError

    training, reason = {**loss, **packing}, ""
    try:
        expected = plain_trl(tiny_model, workspace, columns, training)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:100]
    if reason:
        with pytest.raises(UserError) as refused:
            inspect(tiny_model, workspace, columns, training)
        assert reason in str(refused.value)
    else:
        assert sequences(inspect(tiny_model, workspace, columns, training)) == expected


def test_every_token_of_a_conversation_is_attributed_to_its_turn(tiny_model: Path, workspace: Path) -> None:
    document = inspect(tiny_model, workspace, "{messages: messages}", {"max_length": 256, "assistant_only_loss": True})
    for row in document["rows"]:
        (sequence,) = row["sequences"]
        assert not any("unknown" in token["role"] for token in sequence["tokens"])
        assert all(
            token["in_loss"]
            == (
                (token["role"] == "assistant" and token["source"] == "content")
                or (token["text"] == "<|im_end|>" and token["role"] == "assistant")
            )
            for token in sequence["tokens"]
        )
    assert document["totals"]["trained_by_role"].keys() == {"assistant"}
    assert {row["status"] for row in document["rows"]} == {"kept"}
    assert [row["line"] for row in document["rows"]] == list(range(1, 41))


def test_tools_written_as_json_are_read_as_trl_reads_them(tiny_model: Path, workspace: Path) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
    talk = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    (workspace / "tools.jsonl").write_text(json.dumps({"messages": talk, "tools": json.dumps([tool])}) + "\n")
    document = inspect(tiny_model, workspace, "{messages: messages, tools: tools}", {}, file="tools.jsonl")
    (sequence,) = document["rows"][0]["sequences"]
    assert not any("unknown" in token["role"] for token in sequence["tokens"])


@pytest.mark.parametrize("max_length", [16, 64])
def test_preference_pairs_are_those_of_trls_own_batches(tiny_model: Path, workspace: Path, max_length: int) -> None:
    import datasets
    import transformers
    import trl

    rows = [json.loads(line) for line in (workspace / "train.jsonl").read_text().splitlines()]
    pairs = [{"prompt": row["question"], "chosen": row["answer"], "rejected": row["question"]} for row in rows]
    (workspace / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    trainer = trl.DPOTrainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(tiny_model),
        args=trl.DPOConfig(output_dir=str(workspace / "out"), use_cpu=True, bf16=False, max_length=max_length),
        train_dataset=datasets.Dataset.from_list(pairs),
        processing_class=transformers.AutoTokenizer.from_pretrained(tiny_model),
    )
    expected = []
    for example in trainer.train_dataset:
        batch = trainer.data_collator([example])
        for ids, attended, mask in zip(batch["input_ids"], batch["attention_mask"], batch["completion_mask"]):
            kept = [(int(id), bool(inside)) for id, seen, inside in zip(ids, attended, mask) if seen]
            expected.append(([id for id, _ in kept], [id if inside else -100 for id, inside in kept]))
    columns = "{prompt: prompt, chosen: chosen, rejected: rejected}"
    document = inspect(tiny_model, workspace, columns, {"max_length": max_length}, task="dpo", file="pairs.jsonl")
    assert sequences(document) == expected
    assert {sequence["name"] for row in document["rows"] for sequence in row["sequences"]} == {"chosen", "rejected"}


def test_the_command_shows_rows_and_finds_faults(tiny_model: Path, workspace: Path, command: Callable[..., Any]) -> None:
    inspect(tiny_model, workspace, "{messages: messages}", {"max_length": 24})
    recipe = str(workspace / "recipe.yaml")
    document = json.loads(command("inspect", recipe, "--json").stdout)
    assert document["schema"] == 1
    assert not document["sampled"]
    cut = [row["row"] for row in document["rows"] if row["status"] == "truncated"]
    assert cut
    found = json.loads(command("inspect", recipe, "--json", "--find", "truncated").stdout)
    assert [row["row"] for row in found["rows"]] == cut
    alone = [sys.executable, "-m", "tuitune", "inspect", recipe, "--row", "0", "--row", "2"]  # with an analyst of its own
    shown = subprocess.run(alone, capture_output=True, text=True, timeout=120, check=False)
    assert shown.returncode == 0, shown.stderr
    assert "2 of 40 rows" in shown.stdout
    assert "\u27e6" in shown.stdout, "what is in the loss stands between brackets"


def test_wrong_rows_and_missing_recipes_are_wrong_usage(tiny_model: Path, workspace: Path, command: Callable[..., Any]) -> None:
    inspect(tiny_model, workspace, "{messages: messages}", {})
    for words, said in ((("--row", "99"), "there is no row 99"), ((), "does not exist")):
        done = command("inspect", str(workspace / ("recipe.yaml" if words else "none.yaml")), *words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert said in done.stderr


@pytest.mark.parametrize(
    ("columns", "roles"),
    [("{prompt: question, completion: answer}", ["prompt", "completion", "template"]), ("{text: answer}", ["text", "template"])],
)
def test_strings_are_attributed_to_their_columns_and_the_end_to_the_template(
    tiny_model: Path, workspace: Path, columns: str, roles: list[str]
) -> None:
    document = inspect(tiny_model, workspace, columns, {"max_length": 256})
    for row in document["rows"]:
        (sequence,) = row["sequences"]
        assert list(dict.fromkeys(token["role"] for token in sequence["tokens"])) == roles
        assert [token["text"] for token in sequence["tokens"] if token["role"] == "template"] == ["<|im_end|>"]
    assert not document["totals"]["trained_by_role"].keys() - {"completion", "text", "template"}


def test_tools_written_as_json_text_are_read_as_trl_reads_them(tiny_model: Path, workspace: Path) -> None:
    """And every token is attributed; a template that prints them would be caught out otherwise."""
    template = workspace / "tools.jinja"
    template.write_text(
        "{% for tool in tools %}{{ tool.function.name }} {% endfor %}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    )
    talk = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    row = {"messages": talk, "tools": json.dumps([{"type": "function", "function": {"name": "add"}}])}
    (workspace / "tools.jsonl").write_text(json.dumps(row) + "\n")
    path = workspace / "recipe.yaml"
    inspect(tiny_model, workspace, "{messages: messages}", {})
    path.write_text(
        path.read_text().replace("train.jsonl, columns: {messages: messages}", "tools.jsonl, columns: {messages: messages, tools: tools}")
        + "tokenizer: {chat_template: tools.jinja}\n"
    )
    from tuitune.analyst.document import as_json
    from tuitune.analyst.inspection import inspect as inspect_recipe
    from tuitune.recipe.recipe import load_recipe

    (row,) = as_json(inspect_recipe(load_recipe(path)))["rows"]
    tokens = row["sequences"][0]["tokens"]
    assert "".join(token["text"] for token in tokens) == "add [user]one[assistant]two"
    assert {token["role"] for token in tokens} == {"template", "user", "assistant"}
