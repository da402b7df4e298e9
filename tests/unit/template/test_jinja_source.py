"""A template in pieces: nothing is lost, and blanks are settled as Jinja settles them."""

from itertools import pairwise

import pytest

from tests.support.chat_templates import STYLES
from tuitune.template.jinja_source import normalized, operands, pieces, quoted


@pytest.mark.parametrize("template", STYLES.values(), ids=STYLES)
def test_the_pieces_make_the_template_again(template: str) -> None:
    source = normalized(template)
    found = pieces(source)
    assert "".join(source[piece.start : piece.end] for piece in found) == source
    assert all(before.end == after.start for before, after in pairwise(found))


@pytest.mark.parametrize(
    ("source", "printed"),
    [
        ("a \n{%- if x %} b{% endif %}", ["a", " b"]),
        ("a\n   {% if x %}\n b{% endif %}", ["a\n", " b"]),
        ("{{ x -}}  \n b {{ y }}\nc", ["b ", "\nc"]),
        ("{% raw %}{{ x }}{% endraw %}d", ["d"]),
    ],
)
def test_a_text_knows_what_of_it_is_printed(source: str, printed: list[str]) -> None:
    assert [piece.printed for piece in pieces(source) if piece.kind == "text" and piece.printed] == printed


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("'<|u|>' + m['role'] ~ \"\\n\" + m.content | trim", ["'<|u|>'", "m['role']", '"\\n"', "m.content | trim"]),
        ("('a' + b)", ["'a'", "b"]),
        ("(a) + (b)", ["(a)", "(b)"]),
        ("f(a + b)", ["f(a + b)"]),
        ("x if a + b else c", ["x if a + b else c"]),
        ("a + b == c", ["a + b == c"]),
        ("m['a' + 'b'] + c", ["m['a' + 'b']", "c"]),
        ("'=' * 3 + a", ["'=' * 3 + a"]),
    ],
)
def test_a_sum_of_texts_falls_into_its_operands(expression: str, parts: list[str]) -> None:
    (piece,) = pieces(f"{{{{ {expression} }}}}")
    assert [operand.code for operand in operands(piece.tokens)] == parts


@pytest.mark.parametrize("text", ["it's", 'say "x"', "a\nb\tc", "back\\slash", "ünï", "\\n", ""])
def test_a_quoted_text_is_read_back_as_it_was(text: str) -> None:
    (piece,) = pieces(f"{{{{ {quoted(text)} }}}}")
    assert operands(piece.tokens)[0].literal == text
