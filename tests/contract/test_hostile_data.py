"""Data, roles, file names and templates that would run the terminal or never end: `tuitune inspect` shows them, or says one sentence.

All through the command line and a real analyst, which the tests share (conftest.py).
"""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_text import ACTED_UPON

PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
ESCAPES = "\x1b]52;c;c2VjcmV0\x07\x1b]0;owned\x07\x9b2J\u202e"


@pytest.fixture
def inspect(command: Callable[..., Any], tiny_model: Path, tmp_path: Path) -> Any:
    """(rows, template, options) → exit code, stdout, stderr of `tuitune inspect`."""

    def run(rows: list[dict[str, Any]], template: str = PLAIN, *words: str, name: str = "rows.jsonl") -> tuple[int, str, str]:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        (tmp_path / "own.jinja").write_text(template, encoding="utf-8")
        recipe = {
            "task": "sft",
            "model": {"name_or_path": str(tiny_model)},
            "tokenizer": {"chat_template": "own.jinja"},
            "dataset": {"train": [{"path": name, "columns": {"messages": "messages"}}]},
            "training": {"max_length": 256},
        }
        (tmp_path / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
        done = command("inspect", str(tmp_path / "recipe.yaml"), *words)
        return done.returncode, done.stdout, done.stderr

    return run


def talk(*texts: str, role: str = "user") -> dict[str, Any]:
    return {"messages": [{"role": role, "content": text} for text in texts]}


def obeyed(text: str) -> set[str]:
    """Characters that a terminal acts upon, but for the line feeds of the output itself."""
    return {f"U+{ord(char):04X}" for char in text if char != "\n" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")}


def test_rows_that_would_run_the_terminal_are_shown(inspect: Any) -> None:
    hostile = [text for name, text in ACTED_UPON.items() if name != "half a character"]
    rows = [talk(text, f"漢字 {text}", role=f"us{text}er") for text in hostile]
    code, out, err = inspect(rows, name="\x1b[41mrows\u202e.jsonl")
    assert (code, err) == (0, "")
    assert obeyed(out) == set()
    assert "␛]52;c;c2VjcmV0␇" in out
    assert "<U+202E>" in out
    code, document, err = inspect(rows, PLAIN, "--json", name="\x1b[41mrows\u202e.jsonl")
    assert (code, err, obeyed(document)) == (0, "", set())
    first = json.loads(document)["rows"][0]
    assert "\x1b[31m" in "".join(token["text"] for token in first["sequences"][0]["tokens"]), "the document itself keeps every character"
    assert any("\x1b[31m" in token["role"] for token in first["sequences"][0]["tokens"])


def test_half_a_character_is_named_with_file_and_line(inspect: Any, tmp_path: Path) -> None:
    code, out, err = inspect([talk("fine"), talk("\ud83d")])
    assert (code, out) == (1, "")
    assert err == f"tuitune: {tmp_path}/rows.jsonl:2: \\ud83d is half of a character (a lone surrogate); mend that row\n"


def test_a_row_of_ten_million_characters_is_left_out_and_the_others_are_shown(inspect: Any, tmp_path: Path) -> None:
    rows = [talk("one"), talk("x" * 10_000_000), talk("two")]
    code, out, err = inspect(rows)
    assert (code, err) == (0, "")
    assert f"left out: {tmp_path}/rows.jsonl:2: row 1 has 10,000,0" in out
    assert "2 of 3 rows" in out
    assert len(out) < 2_000
    code, out, err = inspect(rows, PLAIN, "--row", "1")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"{tmp_path}/rows.jsonl:2: row 1 has " in err
    assert "split it, or look at other rows (--row N)" in err


FAILING = {
    "raises with escapes": ("{{ raise_exception('" + ESCAPES + "') }}", "␛]52;c;c2VjcmV0␇"),
    "recurses": ("{% macro deep(n) %}{{ deep(n + 1) }}{% endmacro %}{{ deep(0) }}", "RecursionError"),
    "divides by zero": ("{{ 1 / 0 }}", "division by zero"),
    "asks for what is not there": ("{{ messages[99].content }}", "has no element 99"),
    "does not parse": ("{% for m in %}", "Expected an expression"),
    "leaves the sandbox": ("{{ messages.__class__.__mro__ }}", "unsafe"),
    "reads files": ("{% include '/etc/passwd' %}", "no loader"),
    "multiplies": ("{{ 'x' * 10 ** 11 }}", ""),
    "loops": ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "did not return within 2 s"),
    "loops in C": ("{{ 9 ** (9 ** 9) }}", "did not return within 2 s"),
}


@pytest.mark.parametrize(("template", "said"), FAILING.values(), ids=FAILING.keys())
def test_a_template_that_fails_is_one_sentence(inspect: Any, tmp_path: Path, template: str, said: str) -> None:
    code, out, err = inspect([talk("one"), talk("two")], template)
    assert (code, out) == (1, "")
    assert err.startswith("tuitune: ")
    assert err.count("\n") == 1
    assert obeyed(err) == set()
    assert said in err
    assert "template" in err.replace(str(tmp_path), ""), "it says what is to be corrected"
    assert "Traceback" not in err


def test_what_a_template_prints_is_shown_and_not_obeyed(inspect: Any) -> None:
    code, out, _ = inspect([talk("one")], ESCAPES + PLAIN)
    assert code == 0
    assert obeyed(out) == set()
    assert "␛]0;owned␇" in out


def test_figures_over_hostile_rows_are_printed_and_not_obeyed(inspect: Any) -> None:
    rows = [talk(text, role=f"us{text}er") for name, text in ACTED_UPON.items() if name != "half a character"]
    for words in ((), ("--json",)):
        code, out, err = inspect(rows, PLAIN, "--all", *words)
        assert (code, err, obeyed(out)) == (0, "", set())
        assert "us" in out
