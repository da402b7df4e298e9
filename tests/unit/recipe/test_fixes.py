"""A fix is never worse than the problem: on recipes damaged at random, each fix ends its problem and makes no new one."""

import random
from collections import Counter

import pytest

from tuitune.recipe.complete import breadcrumb, complete, describe, symbols
from tuitune.recipe.document import parse
from tuitune.recipe.problems import Problem, apply_fix
from tuitune.recipe.schema import Schema
from tuitune.recipe.validate import validate

from .conftest import GOOD

PIECES = [
    *("- ", "  ", "\t", ":", ": ", "{", "}", "[", "]", "#", "'", '"', "|\n", "&a ", "*a", "<<: *a\n", "null", "auto", "\n", "---\n"),
    *(
        "!!x ",
        "r: 16\n",
        "training:\n",
        "  learning_rate: 0\n",
        "é",
        "\x85",
        "\u2028",
        "\r\n",
        "0",
        "-1",
        "  pad_token: x\n",
        ",",
        "%",
        "? ",
    ),
    *(
        "  max_seq_length: 3\n",
        "  trust_remote_code: true\n",
        "tokenizer:\n",
        "  packing: yes\n",
        "  group_by_length: true\n",
        "  optim: sg\n",
    ),
]
# Putting YAML right uncovers what stood behind the fault: those may lead to problems that could not be seen before.
UNCOVERING = {"RCP001", "RCP003", "RCP004"}


def damaged(random_: random.Random) -> str:
    text = "\n".join(line for line in GOOD.split("\n") if not line.startswith("#"))
    for _ in range(random_.randint(1, 3)):
        at = random_.randrange(len(text))
        kind = random_.random()
        lines = text.split("\n")
        if kind < 0.5:
            text = text[:at] + random_.choice(PIECES) + text[at:]
        elif kind < 0.7:
            text = text[:at] + text[at + random_.randint(1, 8) :]
        elif kind < 0.85:
            lines.insert(random_.randrange(len(lines)), random_.choice(lines))
            text = "\n".join(lines)
        else:
            del lines[random_.randrange(len(lines))]
            text = "\n".join(lines)
    return text or "a"


def places(problems: list[Problem]) -> Counter[tuple[str, str]]:
    """What is complained about, wherever it stands by now: the code and the words up to the advice."""
    return Counter((problem.code, problem.message.split(": ")[0].split(", and none")[0]) for problem in problems)


@pytest.mark.parametrize("seed", range(6))
def test_fixes_on_damaged_recipes(seed: int, schema: Schema) -> None:
    random_ = random.Random(seed)
    fixed = 0
    for _ in range(120):
        text = damaged(random_)
        found = validate(parse(text), schema)
        lines = text.split("\n")
        for problem in found:
            assert 1 <= problem.line <= len(lines)
            assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
            assert (problem.line, problem.column) <= (problem.end_line, problem.end_column)
        if any(problem.code in UNCOVERING for problem in found):
            continue
        for problem in found:
            if problem.fix is None:
                continue
            fixed += 1
            after = places(validate(parse(apply_fix(text, problem.fix)), schema))
            before = places(found)
            assert not after - before, (problem, text)
            assert after.total() < before.total(), (problem, text)
    assert fixed > 15


@pytest.mark.parametrize("seed", range(3))
def test_the_editor_s_questions_never_fail_on_damaged_text(seed: int, schema: Schema) -> None:
    random_ = random.Random(1000 + seed)
    for _ in range(60):
        text = damaged(random_)
        symbols(parse(text))
        for _ in range(5):
            line, column = random_.randint(1, text.count("\n") + 2), random_.randint(1, 60)
            for completion in complete(text, line, column, schema):
                assert 1 <= completion.replace_from_column <= column
            describe(text, line, column, schema)
            assert all(isinstance(part, str) for part in breadcrumb(text, line, column))


def test_applying_fix_after_fix_ends_with_a_clean_recipe(schema: Schema) -> None:
    text = (
        GOOD.replace("dtype:", "torch_dtype:")
        .replace("learning_rate: 2e-4 ", "lerning_rate: 2e-4x")
        .replace("eval_strategy: no ", "evaluation_strategy: false")
        .replace("max_length: 2048", "max_seq_length: 2048\n  pad_token: x\n  packing: yes")
        .replace("r: 16", "r: '16'")
    )
    for _ in range(20):
        problem = next((problem for problem in validate(parse(text), schema) if problem.fix), None)
        if problem is None or problem.fix is None:
            break
        text = apply_fix(text, problem.fix)
    assert validate(parse(text), schema) == []
    changed = [line for line in text.split("\n") if line not in GOOD.split("\n")]
    assert changed == ["  learning_rate: 2e-4    # YAML 1.2: a number", "  eval_strategy: no      # YAML 1.2: a word", "  packing: true"]
