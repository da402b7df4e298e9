"""The terminal that tests and benches look through: it must not mistake what it was sent, nor when."""

import sys
import time
from pathlib import Path

from tests.support.terminal import Terminal

WRITE = "import os, sys, time\nfor part in {parts!r}:\n os.write(1, part); time.sleep(0.05)\nsys.stdin.read()"


def writing(*parts: bytes, **options: object) -> Terminal:
    """A program that writes the parts one after the other and then waits."""
    return Terminal([sys.executable, "-c", WRITE.format(parts=parts)], size=(40, 5), **options)  # type: ignore[arg-type]


def test_sequences_and_characters_cut_between_two_reads_are_understood() -> None:
    parts = (b"\x1b[?20", b"31$p\x1b[>1", b"u\x1b]0;ti", b"tle\x07\x1bP>|x", b"\x1b\\\x1b[3", b"1mred\xe6", b"\xbc\xa2 end\x1b[", b"0m.")
    with writing(*parts) as terminal:
        assert terminal.wait_for("end.").strip() == "red漢 end."
        assert terminal.cells()[0][0][:2] == ("r", "red")


def test_what_an_app_asks_a_terminal_is_answered() -> None:
    ask = "import os, tty; tty.setraw(0); os.write(1, b'\\x1b[c\\x1b[?2026$p'); a = b''\n"
    ask += "while b'y' not in a: a += os.read(0, 99)\nprint(ascii(a))"
    with Terminal([sys.executable, "-c", ask], size=(80, 5)) as terminal:
        assert "[?62;22c" in terminal.wait_for("2026;2$y")


def test_a_replay_tells_when_cells_changed_and_when_nothing_was_seen() -> None:
    """Bytes that leave every cell as it is are bytes, but not an answer to a key."""
    with writing(b"one", b"\rone", b"\rtwo") as terminal:
        terminal.wait_gone("xxx")
        seen: list[tuple[float, int, bool]] = []
        deadline = time.monotonic() + 60
        while sum(size for _, size, _ in seen) < 11 and time.monotonic() < deadline:
            seen += terminal.replay()
            time.sleep(0.01)
    assert [(size, changed) for _, size, changed in seen] == [(3, True), (4, False), (4, True)]
    assert seen[0][0] < seen[1][0] < seen[2][0]


def test_a_slow_line_is_slow() -> None:
    with writing(b"x" * 3000 + b"\r\nlast", bytes_per_second=3000) as terminal:
        terminal.wait_for("last")
        assert terminal.chunks[-1][0] - terminal.chunks[0][0] > 0.7


def test_a_home_of_its_own_holds_every_folder_that_programs_ask_for(tmp_path: Path) -> None:
    show = "import os; print(*(os.environ[k] for k in ('HOME','XDG_CONFIG_HOME','XDG_CACHE_HOME','XDG_STATE_HOME')), sep='\\n'); input()"
    with Terminal([sys.executable, "-c", show], size=(200, 8), home=tmp_path) as terminal:
        lines = terminal.wait_for("state").splitlines()[:4]
        assert all(line.startswith(str(tmp_path)) for line in lines)
