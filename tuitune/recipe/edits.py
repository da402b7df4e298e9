"""Textual edits of a recipe: take an entry out, put one in, give a value another text. All other bytes stay as they are."""

import re

from tuitune.recipe.problems import Edit, KeyPath
from tuitune.recipe.yaml_reader import Entry


def removal(text: str, entry: Entry, *, flow: bool) -> Edit | None:
    """The edit that takes out `key: value`; None where that cannot be done by cutting (the key shares its line with a `- `).

    In block style the whole lines go, a comment at the end of the value's line with them.
    """
    if entry.key is None or spread(text, entry):
        return None
    start, end = entry.key[0], entry.value[1]
    if flow:
        after = re.compile(r"\s*,[ \t]*").match(text, end)
        if after:
            return Edit(start, after.end(), "")
        before = re.search(r",\s*$", text[:start])
        return Edit(before.start() if before else start, end, "")
    line_start = text.rfind("\n", 0, start) + 1
    if text[line_start:start].strip(" "):
        return None
    stop = text.find("\n", max(end, start))
    return Edit(line_start, stop + 1 if stop >= 0 else len(text), "")


def spread(text: str, entry: Entry) -> bool:
    """Whether a value goes on in the next line: mostly a line below that is indented too far, or a lost quote, so nothing is cut."""
    return entry.style in ("plain", "quoted") and "\n" in text[slice(*entry.value)]


def insertion(text: str, entries: dict[KeyPath, Entry], section: str, line: str) -> Edit | None:
    """The edit that adds `line` (`key: value`) to a top-level section, making the section when it is not there.

    None where the section is written in a way that cannot be extended (an alias, a scalar).
    """
    entry = entries.get((section,))
    if entry is None:
        if entries[()].style != "mapping" or re.search(r"^\.\.\.", text, re.MULTILINE):
            return None
        gap = "" if not text or text.endswith("\n") else "\n"
        return Edit(len(text), len(text), f"{gap}{section}:\n  {line}\n")
    if entry.style == "empty":
        return Edit(entry.value[1], entry.value[1], f"\n  {line}")
    return addition(text, entries, (section,), line)


def addition(text: str, entries: dict[KeyPath, Entry], path: KeyPath, line: str) -> Edit | None:
    """The edit that adds `line` (`key: value`) to the mapping at `path`; None where it is not written as one."""
    entry = entries[path]
    children = [entries[other] for other in entries if len(other) == len(path) + 1 and other[:-1] == path]
    if entry.style == "flow mapping":
        at = len(text[: entry.value[1] - 1].rstrip())
        comma = "" if not children or text[at - 1] == "," else ","
        return Edit(at, at, f"{comma}{' ' if children else ''}{line}")
    if entry.style != "mapping" or not children:
        return None
    first = min(child.key[0] for child in children if child.key)
    indent = first - (text.rfind("\n", 0, first) + 1)
    stop = text.find("\n", entry.value[1])
    at = stop if stop >= 0 else len(text)
    return Edit(at, at, f"\n{' ' * indent}{line}")


def put(text: str, entries: dict[KeyPath, Entry], path: KeyPath, key: str, value: str) -> Edit | None:
    """The edit that makes `value` (one line of YAML) the value of `key` in the mapping at `path`, adding it when it is not there.

    A list or mapping over several lines becomes one line; comments between its lines go with them, one behind the key stays.
    """
    entry = entries.get((*path, key))
    if entry is None:
        return addition(text, entries, path, f"{key}: {value}") if path in entries else None
    if entry.style in ("sequence", "mapping", "block") and entry.key is not None:
        colon = text.index(":", entry.key[1]) + 1
        behind = text[colon : entry.value[0]].partition("\n")[0].strip()
        return Edit(colon, entry.value[1], f" {value}" + (f"  {behind}" if behind.startswith("#") else ""))
    return Edit(*entry.value, f" {value}" if entry.style == "empty" else value)
