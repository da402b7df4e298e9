"""A recipe file on disk: read with its line ends, written back byte for byte but for the edited lines. Imports nothing of Textual."""

import contextlib
import os
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cached_property
from pathlib import Path
from typing import Literal

from tuitune.errors import UserError
from tuitune.files import write_atomically
from tuitune.text import printable

MAX_BYTES = 1 << 20
_OTHER_LINE_ENDS = frozenset("\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")  # what str.splitlines, and so TextArea, breaks at as well
Stamp = tuple[int, int]  # (mtime in ns, size): when it is the same nobody wrote


@dataclass
class RecipeFile:
    """What was last read or written. `read_only` says why the text may not be edited, empty when it may."""

    path: Path
    raw: bytes
    stamp: Stamp
    read_only: str = ""

    @cached_property
    def text(self) -> str:
        """The text with "\\n" between lines; what is not UTF-8 is shown as �."""
        return self.raw.decode("utf-8", "replace").replace("\r\n", "\n")

    def with_line_ends(self, text: str) -> bytes:
        """`text` as bytes: unchanged lines keep the line ends they had, new ones take the file's usual one."""
        windows = self.raw.count(b"\r\n")
        if not windows:
            return text.encode()
        if windows == self.raw.count(b"\n"):
            return text.replace("\n", "\r\n").encode()
        return _mixed_line_ends(self.raw.decode("utf-8", "replace").split("\n"), text.split("\n"), windows).encode()


def _mixed_line_ends(old: list[str], new: list[str], windows: int) -> str:
    plain = [line.removesuffix("\r") for line in old]
    usual = "\r" if windows * 2 > len(old) - 1 else ""
    ends = [usual] * len(new)
    # what is alike at both ends is set aside first: the matcher takes quadratic time in the lines that repeat
    shorter = min(len(plain), len(new))
    head = next((at for at in range(shorter) if plain[at] != new[at]), shorter)
    tail = next((at for at in range(shorter - head) if plain[-1 - at] != new[-1 - at]), shorter - head)
    middle = SequenceMatcher(None, plain[head : len(plain) - tail], new[head : len(new) - tail], autojunk=False).get_matching_blocks()
    alike = [(0, 0, head), *((a + head, b + head, size) for a, b, size in middle), (len(plain) - tail, len(new) - tail, tail)]
    for start, at, size in alike:
        ends[at : at + size] = ["\r" if line.endswith("\r") else "" for line in old[start : start + size]]
    ends[-1] = ""
    return "\n".join(line + end for line, end in zip(new, ends))


def read(path: Path) -> RecipeFile:
    """The file as it is now; UserError when it cannot be read or is too large to be a recipe."""
    try:
        info = path.stat()
        if info.st_size > MAX_BYTES:
            raise UserError(f"{printable(path.name)} has {info.st_size / (1 << 20):.1f} MiB; recipes of up to 1 MiB can be edited here")
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{printable(str(path))} cannot be read: {error.strerror}") from error
    return RecipeFile(path, raw, (info.st_mtime_ns, info.st_size), _why_read_only(path, raw))


def _why_read_only(path: Path, raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return f"read-only: byte {error.start} is not UTF-8. Convert the file first: iconv -f WINDOWS-1252 -t UTF-8"
    if not _OTHER_LINE_ENDS.isdisjoint(text.replace("\r\n", "\n")):
        return "read-only: the file has line ends that YAML does not know (a lone carriage return, U+2028 …). Remove them first"
    if not os.access(path, os.W_OK):
        return "read-only: you may not write this file. Ask its owner, or work on a copy"
    return ""


def look(file: RecipeFile) -> Literal["same", "changed", "gone"]:
    """Whether the file on disk is still what was read or written last. Costs one stat unless somebody touched it."""
    try:
        now = stamp(file.path)
        if now == file.stamp:
            return "same"
        if now is None:
            return "gone"
        if now[1] != len(file.raw) or file.path.read_bytes() != file.raw:
            return "changed"
    except OSError:
        return "changed"  # what it is now is told when it is read or written
    file.stamp = now
    return "same"


def stamp(path: Path) -> Stamp | None:
    """The file's stamp now, None when there is no such file. Raises OSError when that cannot be told."""
    try:
        info = path.stat()
    except FileNotFoundError:
        return None
    return (info.st_mtime_ns, info.st_size)


def write(file: RecipeFile, text: str) -> RecipeFile:
    """Replace the file on disk by `text`; UserError (text and old file untouched) when the disk refuses.

    Mode and owner are kept; where the path is a link, the file that it leads to is replaced.
    """
    raw = file.with_line_ends(text)
    path = file.path.resolve()
    try:
        before = path.stat()
    except OSError:
        before = None
    try:
        write_atomically(path, raw, mode=before.st_mode & 0o7777 if before else 0o644)
        after = path.stat()
    except OSError as error:
        raise UserError(
            f"{printable(file.path.name)} was not saved: {error.strerror}. The text is still here, and the file as it was"
        ) from error
    if before and (before.st_uid, before.st_gid) != (after.st_uid, after.st_gid):
        with contextlib.suppress(OSError):  # only root may give a file away
            os.chown(path, before.st_uid, before.st_gid)
    return RecipeFile(file.path, raw, (after.st_mtime_ns, after.st_size), file.read_only)
