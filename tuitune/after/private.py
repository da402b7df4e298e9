"""Text of this box made fit for everybody: no folder of ours, no secret. Used for what is published."""

import re
from pathlib import Path
from typing import Any

from tuitune.secrets import Masker

# An absolute path or one below ~ that is no part of a URL or a longer word; blanks end it.
_PATH = re.compile(r"""(?<![\w.:/~%-])(?:~[\w.-]*|[A-Za-z]:)?(?:[/\\][^\s/\\"'`,;:(){}\[\]<>|]+)+[/\\]?""")


def is_hub_id(name: str) -> bool:
    """Whether a name reads like one of the Hub's (NAME or ORG/NAME) and not like a path of this box."""
    return bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", name)) and not Path(name).exists()


def short(path: str) -> str:
    """The last part of a path; of nothing but slashes: the word "folder"."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] or "folder"


def public(text: str, masker: Masker | None = None) -> str:
    """`text` with absolute paths cut to their last part and secrets masked. Lines keep their number."""
    home = str(Path.home())
    if len(home) > 1:
        text = text.replace(f"{home}/", "~/")  # a home whose name has blanks in it would end the pattern
    return (masker or Masker()).mask(_PATH.sub(_shortened, text))


def public_value(value: Any, masker: Masker | None = None) -> Any:
    """The same for every text in plain data."""
    masker = masker or Masker()
    if isinstance(value, str):
        return public(value, masker)
    if isinstance(value, dict):
        return {key: public_value(item, masker) for key, item in value.items()}
    return [public_value(item, masker) for item in value] if isinstance(value, list) else value


def _shortened(found: "re.Match[str]") -> str:
    text = found[0]
    if text.startswith("/") and text.count("/") == 1 and not Path(text).exists():
        return text  # "and/or", "/no_think": a slash is not yet a path
    return f"…/{short(text)}"
