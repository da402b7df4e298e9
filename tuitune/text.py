"""Text that comes from outside (data, file names, logs, model answers) made safe to show.

Control characters, terminal escapes and direction overrides are shown, never obeyed: every place that puts foreign text on a
terminal passes it through `printable`.
"""

import json
import re
import unicodedata

# C0 controls have pictures of their own in Unicode (U+2400 …); everything else that a terminal may act upon is shown as <U+XXXX>.
_PICTURES = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}
_TABLE: dict[int, int | str | None] = dict(_PICTURES)
_FORMAT_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
_BEYOND_ASCII = re.compile("[^\n -~]+")


def printable(text: str, *, newlines: bool = False, limit: int | None = None) -> str:
    """`text` with nothing left in it that a terminal would act upon.

    newlines: keep line feeds and show tabs as four blanks (for multi-line panes). limit: at most this many characters, with an
    ellipsis that says how many were left out.
    """
    left_out = 0
    if limit is not None and len(text) > limit:
        left_out = len(text) - limit
        text = text[:limit]
    if not text.isprintable():
        text = "".join(_visible(char, newlines) for char in text)
    return f"{text}… (+{left_out:,} characters)" if left_out else text


def _visible(char: str, newlines: bool) -> str:
    if newlines and char in "\n\t":
        return char if char == "\n" else "    "
    code = ord(char)
    picture = _TABLE.get(code)
    if picture is not None:
        return chr(picture) if isinstance(picture, int) else picture
    if unicodedata.category(char) in _FORMAT_CATEGORIES:
        return f"<U+{code:04X}>"
    return char


def escaped_json(text: str) -> str:
    """The same JSON document with every character that a terminal would act upon written as an escape (\\u009b)."""
    return _BEYOND_ASCII.sub(lambda run: run[0] if run[0].isprintable() else "".join(map(_escaped, run[0])), text)


def _escaped(char: str) -> str:
    return json.dumps(char)[1:-1] if unicodedata.category(char) in _FORMAT_CATEGORIES else char
