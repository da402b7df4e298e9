"""What new tokens ask of rows and of `peft:`."""

import pytest

from tuitune.recipe.new_tokens import MOST, Modules, faults, filled_in, objections, rows_for

TIED = Modules("embed_tokens", "lm_head", True)
APART = Modules("embed_in", "embed_out", False)
JUDGE = Modules("embed_tokens", None, False)


@pytest.mark.parametrize(
    ("rows", "ids", "expected"),
    [
        (322, [], 322),
        (322, [321], 322),
        (322, [322, 323], 384),
        (384, [322, 383], 384),
        (384, [384], 448),
        (151936, [151669], 151936),
        (262144, [262145], 262208),
        (322, [40, 10], 322),
    ],
)
def test_an_embedding_never_shrinks_and_grows_to_a_multiple_of_64(rows: int, ids: list[int], expected: int) -> None:
    assert rows_for(rows, ids) == expected


def test_only_what_is_silent_is_filled_in() -> None:
    assert filled_in({}, TIED) == {"modules_to_save": ["embed_tokens", "lm_head"], "ensure_weight_tying": True}
    assert filled_in({}, APART) == {"modules_to_save": ["embed_in", "embed_out"]}
    assert filled_in({}, JUDGE) == {"modules_to_save": ["embed_tokens"]}
    assert filled_in({"modules_to_save": ["x"], "ensure_weight_tying": False}, TIED) == {}


@pytest.mark.parametrize(
    ("peft", "modules", "keys", "instead"),
    [
        ({"r": 8, "target_modules": "all-linear"}, TIED, [], []),
        ({"modules_to_save": ["lm_head", "embed_tokens", "norm"], "ensure_weight_tying": True}, TIED, [], []),
        ({"modules_to_save": ["norm"]}, TIED, ["modules_to_save"], [["norm", "embed_tokens", "lm_head"]]),
        ({"modules_to_save": None}, APART, ["modules_to_save"], [["embed_in", "embed_out"]]),
        ({"modules_to_save": ["embed_tokens"]}, JUDGE, [], []),
        ({"ensure_weight_tying": False}, TIED, ["ensure_weight_tying"], [True]),
        ({"ensure_weight_tying": False}, APART, [], []),
        ({"trainable_token_indices": [1]}, APART, ["trainable_token_indices"], [None]),
        ({"target_modules": ["q_proj", "lm_head"]}, TIED, ["target_modules"], [["q_proj"]]),
        ({"target_modules": ["embed_in"]}, APART, ["target_modules"], ["all-linear"]),
    ],
)
def test_what_contradicts_is_named_with_what_works(peft: dict, modules: Modules, keys: list[str], instead: list) -> None:
    found = list(objections(peft, modules))
    assert [objection.key for objection in found] == keys
    assert [objection.instead for objection in found] == instead


def test_a_new_token_is_a_text_named_once() -> None:
    assert list(faults(["<a>", "<b>"])) == []
    assert [at for at, _ in faults(["<a>", " ", "<a>", ""])] == [1, 2, 3]
    assert [at for at, _ in faults(f"<{n}>" for n in range(MOST + 5))] == [MOST]
