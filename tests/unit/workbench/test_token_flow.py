"""Tokens as flowing text: nothing is lost, nothing is obeyed, every token can be found again."""

import msgspec
import pytest
from rich.cells import cell_len

from tuitune.analyst.document import IGNORED, Inspection, Row, Tokens
from tuitune.workbench.views.tokens.flow import Place, describe, drawn, flow, legend, row_line, with_cursor

TEXTS = {1: "<|im_start|>", 2: "user", 3: "\n", 4: "two", 5: " words", 6: "\x1b[31m", 7: "�", 8: "x" * 25}
NAMES = ["template", "user", "assistant", "unknown", "template+content"]


def inspection(*ids: int, trained: int = 0, role: int = 1) -> Inspection:
    labels = [IGNORED] * (len(ids) - trained) + list(ids[len(ids) - trained :])
    tokens = Tokens("input", None, list(ids), labels, list(range(len(ids))), [0] * len(ids), [role] * len(ids), [0] * len(ids))
    return Inspection(1, 1, [Row(0, "data.jsonl", 1, "kept", [tokens])], NAMES, TEXTS, frozenset({1}))


def lines(ids: tuple[int, ...], width: int) -> list[str]:
    found = inspection(*ids)
    return ["".join(text for text, _ in line) for line in flow(found, found.rows[0].sequences[0], width).lines]


def test_line_feeds_are_seen_and_end_the_line() -> None:
    assert lines((1, 2, 3, 4, 5, 3), 40) == ["<|im_start|>user↵", "two·words↵"]


def test_a_line_too_long_is_wrapped_between_tokens_and_a_token_too_long_within() -> None:
    assert lines((2, 4, 5), 8) == ["usertwo", "·words"]
    assert lines((4, 8), 10) == ["two", "xxxxxxxxxx", "xxxxxxxxxx", "xxxxx"]


def test_terminal_escapes_and_pieces_of_characters_are_shown_not_obeyed() -> None:
    assert "\x1b" not in drawn("\x1b[31m")
    assert drawn("�") == "▯"
    assert drawn("") == "∅"


def test_every_token_is_found_again_by_its_place() -> None:
    found = inspection(1, 2, 3, 4, 5, 3)
    made = flow(found, found.rows[0].sequences[0], 40)
    assert made.places[3] == Place(1, 0)
    assert [made.token_at(place.y, place.x) for place in made.places] == [0, 1, 2, 3, 4, 5]
    assert made.token_at(1, 4) == 4


def test_what_is_trained_on_is_marked_and_so_is_the_cursor() -> None:
    found = inspection(2, 4, trained=1)
    (line,) = flow(found, found.rows[0].sequences[0], 40).lines
    assert line == (("user", "one"), ("two", "one+under"))
    assert with_cursor(line, 4, 3) == (("user", "one"), ("two", "one+under+cursor"))
    assert with_cursor(line, 3, 2) == (("use", "one"), ("r", "one+cursor"), ("t", "one+under+cursor"), ("wo", "one+under"))


def test_a_row_says_what_is_wrong_with_it() -> None:
    found = inspection(2, 4, role=3)
    assert row_line(found, found.rows[0], 60) == (("      0      2      0 ", ""), ("nothing in the loss roles unknown ", "warn"))
    good = inspection(2, 4, trained=2)
    assert row_line(good, good.rows[0], 60) == (("      0      2      2 ", ""),)


def test_a_row_shows_how_its_data_begins() -> None:
    tokens = Tokens("input", None, [1, 4, 5, 6], [IGNORED] * 4, [0, 1, 2, 3], [0] * 4, [1] * 4, [0, 5, 5, 5])
    found = Inspection(1, 1, [Row(0, "f", 1, "kept", [tokens])], [*NAMES, "content"], TEXTS, frozenset())
    assert row_line(found, found.rows[0], 70)[-1][0].startswith("two words")
    assert "\x1b" not in row_line(found, found.rows[0], 70)[-1][0]


def test_a_token_is_described_in_words() -> None:
    found = inspection(1, 4, trained=1)
    said = [["".join(text for text, _ in line) for line in describe(found, found.rows[0].sequences[0], at)] for at in (0, 1)]
    assert said == [["1/2 '<|im_start|>' id 1 special not in the loss", "user template"], ["2/2 'two' id 4 in the loss", "user template"]]
    assert "user" in "".join(text for text, _ in legend(found, found.rows[0].sequences))


def cells(line) -> int:
    return sum(cell_len(text) for text, _ in line)


@pytest.mark.parametrize("text", ["漢字かな交じり文", "🦜👩‍🚀⚠️", "e\u0301\u0301\u0301", "क्षत्रिय", "שלום עולם", "\u200b\u202e", "｡ｱ"])
@pytest.mark.parametrize("width", [10, 11, 40])
def test_wide_and_combining_characters_fill_cells_and_not_more(text: str, width: int) -> None:
    """A line never passes its width, and a token is found again where it is drawn."""
    found = inspection(1, 2, 4)
    found = msgspec.structs.replace(found, texts={**found.texts, 2: text * 3})
    made = flow(found, found.rows[0].sequences[0], width)
    assert all(cells(line) <= width for line in made.lines)
    last = made.places[2]
    before = made.lines[last.y][: [piece for piece, _ in made.lines[last.y]].index("two")]
    assert last.x == cells(before)
    assert made.token_at(last.y, last.x) == 2


def test_a_mark_does_not_go_onto_the_token_before() -> None:
    assert drawn("\u0301") == "◌\u0301"
    assert drawn("\ufe0f") == "◌\ufe0f"
    assert cell_len(drawn("\u0301" * 500)) < 40, "a thousand marks on one letter are cut"


def test_the_cursor_covers_cells() -> None:
    line = (("漢字", "one"), ("two", "two"))
    assert with_cursor(line, 4, 3) == (("漢字", "one"), ("two", "two+cursor"))
    assert with_cursor(line, 0, 4) == (("漢字", "one+cursor"), ("two", "two"))


def test_roles_are_the_datas_own_words_and_are_not_obeyed() -> None:
    found = msgspec.structs.replace(inspection(1, 2), names=["template", "\x1b]0;owned\x07" + "x" * 500])
    tokens = found.rows[0].sequences[0]
    said = "".join(text for line in (*describe(found, tokens, 0), legend(found, [tokens])) for text, _ in line)
    assert "␛]0;owned␇" in said
    assert "\x1b" not in said
    assert len(said) < 300


def test_a_row_is_as_wide_as_its_list() -> None:
    tokens = Tokens("input", None, [2, 2], [IGNORED] * 2, [0, 1], [0] * 2, [1] * 2, [5, 5])
    found = Inspection(1, 1, [Row(0, "f", 1, "kept", [tokens])], [*NAMES, "content"], {2: "漢字\u202e" * 20}, frozenset())
    assert cells(row_line(found, found.rows[0], 70)) <= 70


def test_pieces_of_characters_are_one_sign_in_the_beginning_of_a_row() -> None:
    tokens = Tokens("input", None, [7, 7, 7, 4], [IGNORED] * 4, [0, 1, 2, 3], [0] * 4, [1] * 4, [5] * 4)
    found = Inspection(1, 1, [Row(0, "f", 1, "kept", [tokens])], [*NAMES, "content"], TEXTS, frozenset())
    assert row_line(found, found.rows[0], 70)[-1][0] == "▯two"
