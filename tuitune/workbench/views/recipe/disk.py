"""A recipe file on disk: read with its line ends, written back byte for byte but for the edited lines. Imports nothing of Textual."""

import os
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

from tuitune.errors import UserError
from tuitune.files import write_atomically
from tuitune.text import printable

MAX_BYTES = 1 << 20
BOM = b"\xef\xbb\xbf"
_OTHER_LINE_ENDS = frozenset("\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")  # what str.splitlines, and so TextArea, breaks at as well
Stamp = tuple[int, int]  # (mtime in ns, size): enough to see that somebody else wrote


@dataclass
class RecipeFile:
    """What was last read or written. `read_only` says why the text may not be edited, empty when it may."""

    path: Path
    raw: bytes = b""
    stamp: Stamp = (0, 0)
    read_only: str = ""

    @property
    def text(self) -> str:
        """The text with "\\n" between lines; what is not UTF-8 is shown as �."""
        return self.raw.removeprefix(BOM).decode("utf-8", "replace").replace("\r\n", "\n")

    def with_line_ends(self, text: str) -> bytes:
        """`text` as bytes: unchanged lines keep the line ends they had, new ones take the file's usual one; the BOM stays."""
        old = self.raw.removeprefix(BOM).decode("utf-8", "replace").split("\n")
        plain = [line.removesuffix("\r") for line in old]
        windows = sum(line.endswith("\r") for line in old)
        usual = "\r" if windows * 2 > len(old) - 1 else ""
        lines = text.split("\n")
        ends = [usual] * len(lines)
        for tag, start, stop, at, _ in SequenceMatcher(None, plain, lines, autojunk=False).get_opcodes():
            if tag == "equal":
                ends[at : at + stop - start] = ["\r" if line.endswith("\r") else "" for line in old[start:stop]]
        ends[-1] = ""
        body = "\n".join(line + end for line, end in zip(lines, ends))
        return (BOM if self.raw.startswith(BOM) else b"") + body.encode()


def read(path: Path) -> RecipeFile:
    """The file as it is now; UserError when it cannot be read or is too large to be a recipe."""
    try:
        info = path.stat()
        if info.st_size > MAX_BYTES:
            raise UserError(f"{printable(path.name)} has {info.st_size >> 20} MiB; recipes of up to 1 MiB can be edited here")
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{printable(str(path))} cannot be read: {error.strerror}") from error
    return RecipeFile(path, raw, (info.st_mtime_ns, info.st_size), _why_read_only(path, raw))


def _why_read_only(path: Path, raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return f"byte {error.start} is not UTF-8: convert the file (iconv -f WINDOWS-1252 -t UTF-8) before you edit it"
    if not _OTHER_LINE_ENDS.isdisjoint(text.replace("\r\n", "\n")):
        return "the file has line ends that YAML does not know (a lone carriage return, U+2028 …): remove them before you edit it"
    if not os.access(path, os.W_OK):
        return "you may not write this file: ask its owner, or save a copy elsewhere"
    return ""


def stamp(path: Path) -> Stamp | None:
    """The file's stamp now, None when it is gone."""
    try:
        info = path.stat()
    except OSError:
        return None
    return (info.st_mtime_ns, info.st_size)


def write(file: RecipeFile, text: str) -> RecipeFile:
    """Replace the file on disk by `text`, keeping its mode; UserError (text and old file untouched) when the disk refuses.

    A symbolic link stays one: what it points to is replaced.
    """
    raw = file.with_line_ends(text)
    try:
        mode = file.path.stat().st_mode & 0o777
    except OSError:
        mode = 0o644
    try:
        write_atomically(file.path.resolve(), raw, mode=mode)
        info = file.path.stat()
    except OSError as error:
        raise UserError(
            f"{printable(file.path.name)} was not saved: {error.strerror}. The text is still here; make room or save elsewhere"
        ) from error
    return RecipeFile(file.path, raw, (info.st_mtime_ns, info.st_size), file.read_only)
