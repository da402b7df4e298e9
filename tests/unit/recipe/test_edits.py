"""One value of a recipe gets another text, and everything else stays."""

import pytest

from tuitune.recipe.document import parse
from tuitune.recipe.edits import put
from tuitune.recipe.problems import apply_edits

BEFORE = "peft:\n  r: 8  # rank\n"
AFTER = "\n\n  # strength\n  lora_alpha: 16\n"


@pytest.mark.parametrize(
    ("written", "becomes"),
    [
        ("  target_modules: [q_proj]", "  target_modules: all-linear"),
        ("  target_modules:\n  - q_proj  # first\n  - lm_head", "  target_modules: all-linear"),
        ("  target_modules:\n      - q_proj\n      - lm_head", "  target_modules: all-linear"),
        ("  target_modules:  # which layers\n  - q_proj", "  target_modules: all-linear  # which layers"),
        ("  target_modules:", "  target_modules: all-linear"),
    ],
)
def test_a_value_over_one_or_more_lines_is_replaced_by_one_line(written: str, becomes: str) -> None:
    text = BEFORE + written + AFTER
    edit = put(text, parse(text).entries, ("peft",), "target_modules", "all-linear")
    assert edit is not None
    assert apply_edits(text, [edit]) == BEFORE + becomes + AFTER
