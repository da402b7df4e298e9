"""Tokens as flowing text: nothing is lost, nothing is obeyed, every token can be found again."""

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
