"""YAML with positions: what is understood, where it stands, and a plain sentence for what is not YAML."""

import time
from pathlib import Path

import pytest

from tuitune.errors import UserError
from tuitune.recipe.document import decode, parse, read_document
from tuitune.recipe.problems import Edit, apply_edits, apply_fix

from .conftest import GOOD


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-4", 2e-4),
        ("2.0E+3", 2000.0),
        (".5", 0.5),
        ("1_000", "1_000"),
        ("0x10", 16),
        ("0o17", 15),
        ("no", "no"),
        ("on", "on"),
        ("True", True),
        ("false", False),
        ("~", None),
        ("", None),
        ("null", None),
        (".inf", float("inf")),
        ("-.inf", float("-inf")),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("'3'", "3"),
        ('"true"', "true"),
        ("!!str 3", "3"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    assert parse(f"key: {text}").data == {"key": value}


def test_every_key_and_value_has_its_place() -> None:
    spans = parse(GOOD).spans
    key, value = spans["training", "learning_rate"]
    assert key is not None
    assert (key.line, key.column, key.end_column) == (23, 3, 16)
    assert (value.line, value.column, value.end_column) == (23, 18, 22)
    key, value = spans["dataset", "train", 0, "columns", "assistant"]
    assert GOOD[value.start : value.end] == "answer"
    key, value = spans["dataset", "eval", 0]
    assert key is None
    assert (value.line, value.end_line) == (20, 21)


def test_an_empty_value_stands_right_behind_its_key() -> None:
    document = parse("model:\n  dtype:\n\n\ntraining:\n  seed: 1\n")
    assert document.data == {"model": {"dtype": None}, "training": {"seed": 1}}
    assert document.key_span(("model", "dtype")).line == 2
    assert document.entries["model", "dtype"].value == (15, 15)


def test_block_text_ends_with_its_last_written_line() -> None:
    document = parse("watch:\n  prompts:\n    - |\n      one\n      two\n\noutput: {}\n")
    assert document.data["watch"]["prompts"] == ["one\ntwo\n"]
    assert document.spans["watch", "prompts", 0][1].end_line == 5


def test_aliases_and_merge_keys_are_followed_and_point_to_where_the_alias_stands() -> None:
    document = parse("a: &base {x: 1, y: 2}\nb:\n  <<: *base\n  y: 3\nc: *base\n")
    assert document.data["b"] == {"x": 1, "y": 3}
    assert document.data["c"] == {"x": 1, "y": 2}
    assert document.key_span(("b", "x")).line == 3
    assert document.value_span(("c", "x")).line == 5
    assert not document.editable(("b", "x"))
    assert not document.editable(("c", "x"))
    assert document.editable(("b", "y"))


def test_crlf_line_ends_count_as_one_line() -> None:
    document = parse("task: sft\r\nmodel:\r\n  dtype: auto\r\n")
    assert document.value_span(("model", "dtype")).line == 3
    assert document.data["model"] == {"dtype": "auto"}


@pytest.mark.parametrize(
    ("text", "code", "line", "column", "words"),
    [
        ("a: [1, 2\nb: 3\n", "RCP001", 1, 4, "`[` opened here is not closed"),
        ("a: {b: 1\nc: 3\n", "RCP001", 1, 4, "`{` opened here is not closed"),
        ("a: 'x\nb: 1\n", "RCP001", 1, 4, "never closed"),
        ("a: b: c\n", "RCP001", 1, 5, "`:` is not expected here"),
        ("a: 1\n b: 2\n", "RCP001", 2, 3, "indent this line like its neighbours"),
        ("a:\n  b: 1\n c: 2\n", "RCP001", 3, 2, "fits no line above"),
        ("a: 1\nlearning_rate\nb: 2\n", "RCP001", 2, 1, "has no `:`"),
        ("a: - b\n", "RCP001", 1, 4, "a line of its own"),
        ("a: @x\n", "RCP001", 1, 4, "cannot begin with `@`"),
        ("a: *nowhere\n", "RCP001", 1, 4, "not defined above"),
        (": 1\n", "RCP001", 1, 1, "key is missing"),
        ("a: x\x07\n", "RCP001", 1, 5, "not allowed in YAML"),
        ("a:\n\tb: 1\n", "RCP003", 2, 1, "a tab stands"),
        ("a: 1\nb: 2\na: 3\n", "RCP004", 3, 1, "`a` is given twice"),
        ("", "RCP005", 1, 1, "is empty"),
        ("# nothing but a comment\n", "RCP005", 1, 1, "is empty"),
        ("- a\n- b\n", "RCP006", 1, 1, "is a list"),
        ("just words\n", "RCP006", 1, 1, "is a single value"),
        ("a: &a [*a]\n", "RCP007", 1, 8, "has no end"),
        ("a: 1\n---\nb: 2\n", "RCP009", 2, 1, "one document"),
        ("a: !!python/object:os.system x\n", "RCP009", 1, 4, "is not used in recipes"),
        ("[a]: 1\n", "RCP009", 1, 1, "a key must be a word"),
    ],
)
def test_what_is_not_a_recipe_gets_a_plain_sentence_at_the_place(text: str, code: str, line: int, column: int, words: str) -> None:
    problem = parse(text).problems[0]
    assert (problem.code, problem.line, problem.column) == (code, line, column)
    assert words in problem.message


def test_what_stands_above_a_fault_is_still_understood() -> None:
    document = parse("task: sft\nmodel:\n  dtype: float32\ntraining:\n  seed: [1, 2\n  x: 'y\n")
    assert document.data == {"task": "sft", "model": {"dtype": "float32"}, "training": {}}
    assert not document.readable


def test_bytes_that_are_not_utf_8_are_named_by_their_offset() -> None:
    document = decode("name: é\n".encode() + b"task: \xff\n")
    problem = document.problems[0]
    assert problem.code == "RCP002"
    assert "byte 15 of the file (0xff)" in problem.message
    assert (problem.line, problem.column) == (2, 7)


def test_utf_16_is_named_for_what_it_is() -> None:
    assert "UTF-16" in decode("task: sft".encode("utf-16")).problems[0].message


def test_a_byte_order_mark_is_a_warning_with_a_fix() -> None:
    document = parse("\ufefftask: sft\n")
    problem = document.problems[0]
    assert (problem.code, problem.severity) == ("RCP008", "warning")
    assert document.data == {"task": "sft"}
    assert problem.fix is not None
    assert apply_fix(document.text, problem.fix) == "task: sft\n"


def test_tabs_become_blanks_by_one_fix() -> None:
    text = "model:\n\tdtype: auto\n\trevision: main\ndataset:\n\ttrain:\n\t\t- path: 'a\tb'\n"
    problem = parse(text).problems[0]
    assert problem.fix is not None
    fixed = apply_fix(text, problem.fix)
    assert fixed == "model:\n  dtype: auto\n  revision: main\ndataset:\n  train:\n    - path: 'a\tb'\n"
    assert parse(fixed).problems == []


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("a: 1\nb: 2\na: 3  # gone too\nc: 4\n", "a: 1\nb: 2\nc: 4\n"),
        ("s: {a: 1, b: 2, a: 3}\n", "s: {a: 1, b: 2}\n"),
        ("s: {a: 1, a: 3, b: 2}\n", "s: {a: 1, b: 2}\n"),
        ("a:\n  x: 1\nb: 2\na:\n  y: 1\n  z: 2", "a:\n  x: 1\nb: 2\n"),
    ],
)
def test_a_second_key_is_taken_out_whole(text: str, fixed: str) -> None:
    problem = parse(text).problems[0]
    assert problem.code == "RCP004"
    assert problem.fix is not None
    assert apply_fix(text, problem.fix) == fixed


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"l{n}: &l{n} [{','.join([f'*l{n - 1}'] * 9) if n else 1}]" for n in range(12)),  # a billion laughs
        "a: " + "[" * 100_000,
        "a:\n" + "".join("  " * depth + "a:\n" for depth in range(1, 2000)),
        "x" * (1 << 21),
        "a: " + "9" * 5000,
    ],
)
def test_hostile_files_are_refused_or_read_quickly(text: str) -> None:
    started = time.perf_counter()
    parse(text)
    assert time.perf_counter() - started < 20  # not a benchmark: expansion would take minutes and gigabytes


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.yaml cannot be read: No such file or directory"):
        read_document(tmp_path / "missing.yaml")
    with pytest.raises(UserError, match="Is a directory"):
        read_document(tmp_path)


def test_overlapping_edits_are_a_bug_that_is_not_hidden() -> None:
    assert apply_edits("abcd", [Edit(0, 1, "x"), Edit(1, 1, "y"), Edit(3, 4, "")]) == "xybc"
    with pytest.raises(ValueError, match="overlapping"):
        apply_edits("abcd", [Edit(0, 2, "x"), Edit(1, 3, "y")])
