"""What the editor offers. In each text `§` is the cursor; the line it stands on is mostly not valid YAML, as while typing."""

import pytest

from tuitune.recipe.complete import Completion, breadcrumb, complete, describe, symbols
from tuitune.recipe.cursor import locate
from tuitune.recipe.document import parse
from tuitune.recipe.schema import Schema

from .conftest import GOOD

HEAD = """\
task: sft
dataset:
  train:
    - {path: a.jsonl, columns: {user: q}}
    - path: b.jsonl
      columns:
        user: question
training:
  learning_rate: 1e-4
"""


def at_cursor(text: str) -> tuple[str, int, int]:
    before, _, after = text.partition("§")
    return before + after, before.count("\n") + 1, len(before) - before.rfind("\n")


def offered(text: str, schema: Schema) -> list[Completion]:
    return complete(*at_cursor(text), schema)


def words(text: str, schema: Schema) -> list[str]:
    return [completion.text for completion in offered(text, schema)]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("§", ["task: ", "model:", "dataset:"]),
        ("mo§", ["model:"]),
        ("ta§: sft", ["task"]),
        ("task: §", ["sft", "dpo", "tpo"]),
        ("task: d§", ["dpo"]),
        (HEAD + "§", ["model:", "name: "]),
        (HEAD + "  §", ["num_train_epochs: ", "per_device_train_batch_size: "]),
        (HEAD + "  §\n\noutput: {}\n", ["num_train_epochs: "]),
        (HEAD + "  # a comment\n\n  max§\n  seed: 3\n", ["max_length: ", "max_steps: "]),
        (HEAD + "  lrst§", ["lr_scheduler_type: "]),
        (HEAD + "  length§", ["max_length: "]),
        (HEAD + "  optim: adamw_t§", ["adamw_torch", "adamw_torch_fused"]),
        (HEAD + "  optim: ADAMW_T§", ["adamw_torch", "adamw_torch_fused"]),
        (HEAD + "  packing: §", ["true", "false"]),
        (HEAD + "  packing: §  # comment", ["true", "false"]),
        (HEAD + "  bf16: a§", ["auto", "false"]),
        (HEAD + "  save_total§: 3", ["save_total_limit"]),
        (HEAD + "  max_length: §", []),
        (HEAD + "  # pac§", []),
        (HEAD + "  run_name: it's here §", []),
        (HEAD.replace("{user: q}", "{user: q, §}"), ["messages: ", "system: ", "assistant: "]),
        (HEAD.replace("{user: q}", "{§}"), ["messages: "]),
        (HEAD.replace("{path: a.jsonl,", "{path: a.jsonl, ma§,"), ["max_rows: "]),
        (HEAD.replace("user: question", "user: question\n        ass§"), ["assistant: "]),
        (HEAD.replace("path: b.jsonl", "path: b.jsonl\n      §"), ["subset: ", "split: "]),
        (HEAD.replace("- path: b.jsonl", "- §"), ["path: "]),
        ("dataset:\n  train:\n  - path: x\n    co§", ["columns:"]),
        ("dataset:\n  train:\n  §", ["eval:"]),
        ("dataset:\n  ev§", ["eval:"]),
        ("task: dpo\ntraining:\n  loss_type: [sig§", ["sigmoid"]),
        ("task: dpo\ntraining:\n  be§", ["beta: "]),
        ("task: sft\ntraining:\n  bet§", []),
        ("training: {lea§", ["learning_rate: "]),
        ("training: {learning_rate: 1, eval_strategy: e§}", ["epoch"]),
        ("model:\n  attn_implementation: §", ["auto", "sdpa", "varlen", "eager", "flash_attention_2", '"null"'[1:5]]),
        ("model:\n  dtype: b§", ["bfloat16"]),
        ("peft:\n  target_modules: §", ["all-linear"]),
        ("launch:\n  retry: {§", ["oom: ", "crash: "]),
        ("launch:\n  retry:\n    §", ["oom: ", "crash: "]),
        ("watch:\n  then:\n    §", ["nan: ", "divergence: ", "plateau: ", "stall: ", "forgetting: "]),
        ("watch:\n  prompts:\n    - |\n      §", []),
        ("watch:\n  prompts:\n    - |\n      text\n  §", ["every: "]),
        ("nonsense:\n  §", []),
        ("model:\r\n  dty§\r\n", ["dtype: "]),
    ],
)
def test_what_is_offered_first(text: str, first: list[str], schema: Schema) -> None:
    found = words(text, schema)
    assert found[: len(first)] == first
    if not first:
        assert found == []


def test_keys_that_are_there_are_not_offered_again(schema: Schema) -> None:
    found = words(HEAD + "  §\n  seed: 3\noutput: {}\n", schema)
    assert "learning_rate: " not in found
    assert "seed: " not in found
    assert "max_length: " in found


def test_of_two_names_for_one_field_only_the_newest_is_offered_and_only_once(schema: Schema) -> None:
    assert "activation_checkpointing: " in words(HEAD + "  §", schema)
    assert "gradient_checkpointing: " not in words(HEAD + "  §", schema)
    assert "activation_checkpointing: " not in words(HEAD + "  gradient_checkpointing: true\n  §", schema)


def test_values_with_another_home_are_not_offered_under_training(schema: Schema) -> None:
    assert not {"pad_token: ", "output_dir: ", "trust_remote_code: ", "model_init_kwargs: "} & set(words(HEAD + "  §", schema))


def test_a_completion_says_what_it_replaces_its_type_and_default(schema: Schema) -> None:
    (rate, *_) = offered("training:\n  learn§", schema)
    assert rate == Completion("learning_rate: ", "key", "float = 2e-05", "The initial learning rate.", 3)
    (section, *_) = offered("dataset:\n  tr§", schema)
    assert (section.text, section.kind, section.detail) == ("train:", "section", "list[dict], required")
    value = next(completion for completion in offered("training:\n  optim: §", schema) if completion.text == "adamw_torch_fused")
    assert (value.kind, value.detail, value.replace_from_column) == ("value", "default", 10)


def test_accepting_a_completion_gives_the_key(schema: Schema) -> None:
    text, line, column = at_cursor(HEAD + "  per_device_t§: 4\n")
    chosen = complete(text, line, column, schema)[0]
    lines = text.split("\n")
    lines[line - 1] = lines[line - 1][: chosen.replace_from_column - 1] + chosen.text + lines[line - 1][column - 1 :]
    assert lines[line - 1] == "  per_device_train_batch_size: 4"


def test_the_docs_of_a_key_are_found_from_key_and_value(schema: Schema) -> None:
    for text in ("training:\n  learni§ng_rate: 1e-4", "training:\n  learning_rate: 1e§-4", "training: {seed: 1, learning_rate: §1}"):
        found = describe(*at_cursor(text), schema)
        assert found is not None
        assert found.split("\n") == ["learning_rate: float = 2e-05", "", "The initial learning rate."]
    found = describe(*at_cursor("training:\n  gradient_check§pointing: true"), schema)
    assert found is not None
    assert found.startswith("gradient_checkpointing: bool | null = true\nalso known as activation_checkpointing")
    assert describe(*at_cursor("training:\n  unknown§: 1"), schema) is None
    assert describe(*at_cursor("# §"), schema) is None


def test_the_docs_name_the_choices(schema: Schema) -> None:
    found = describe(*at_cursor("training:\n  packing_strategy: §"), schema)
    assert found is not None
    assert "one of bfd, bfd_split, wrapped" in found


@pytest.mark.parametrize(
    ("text", "crumbs"),
    [
        ("§task: sft", ("task",)),
        ("training:\n  seed: §1", ("training", "seed")),
        (HEAD.replace("user: question", "user: que§stion"), ("dataset", "train", "[1]", "columns", "user")),
        (HEAD.replace("- path: b", "- pa§th: b"), ("dataset", "train", "[1]", "path")),
        (HEAD.replace("{user: q}", "{user: §q}"), ("dataset", "train", "[0]", "columns", "user")),
        ("a:\n- - x: 1\n  - x: §2\n- y: 3", ("a", "[0]", "[1]", "x")),
    ],
)
def test_breadcrumbs(text: str, crumbs: tuple[str, ...]) -> None:
    assert breadcrumb(*at_cursor(text)) == crumbs


def test_symbols_are_all_keys_in_the_order_of_the_text() -> None:
    found = symbols(parse("task: sft\nmodel: {dtype: auto}\ndataset:\n  train:\n    - path: x\n"))
    assert [(symbol.name, symbol.line, symbol.column) for symbol in found] == [
        ("task", 1, 1),
        ("model", 2, 1),
        ("model.dtype", 2, 9),
        ("dataset", 3, 1),
        ("dataset.train", 4, 3),
        ("dataset.train[0].path", 5, 7),
    ]


def test_positions_outside_the_text_are_moved_to_its_edge(schema: Schema) -> None:
    assert locate("task: sft", 99, 99).part == "value"
    assert complete("", 5, 7, schema) != []


def test_the_cursor_s_path_agrees_with_the_parser_on_every_key_of_a_real_recipe() -> None:
    document = parse(GOOD)
    for path, entry in document.entries.items():
        if entry.key is None:
            continue
        span = document.span_at(*entry.key)
        cursor = locate(GOOD, span.line, span.end_column)
        assert cursor.part == "key", path
        assert (*cursor.path, cursor.word) == path
        assert cursor.colon
