"""Secrets that must never reach a log, a journal or a screen: tokens by their shape, and the values of variables named like one."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Mapping
from typing import Any, TextIO

_SHAPES = re.compile(r"\b(hf_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,})")
_NAMES = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|APIKEY|(^|_)KEYS?(_|$)", re.IGNORECASE)
SHORTEST = 8  # characters; TOKENIZERS_PARALLELISM=false is no secret
MASK = "•••"


class Masker:
    """Knows the secrets of an environment; `mask` takes them out of a text."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        values = {value for name, value in environment.items() if len(value) >= SHORTEST and _NAMES.search(name)}
        values = {value for value in values if not os.path.exists(value)}  # SSL_KEY_FILE=/etc/…: where a secret lies is none
        self._values = sorted(values, key=len, reverse=True)

    def mask(self, text: str) -> str:
        """`text` with every secret replaced by •••."""
        for value in self._values:
            if value in text:
                text = text.replace(value, MASK)
        return _SHAPES.sub(MASK, text)

    def find(self, text: str) -> list[str]:
        """The secrets in a text, for who must refuse them; they are to be counted, never shown."""
        return [value for value in self._values if value in text] + [found[0] for found in _SHAPES.finditer(text)]

    def mask_all(self, value: Any) -> Any:
        """`value` with every text in it masked, in dicts and lists at any depth."""
        if isinstance(value, str):
            return self.mask(value) if len(value) >= SHORTEST else value
        if isinstance(value, dict):
            return {key: self.mask_all(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.mask_all(item) for item in value]
        return value


def mask_streams() -> None:
    """From now on this process prints no secret: stdout and stderr go through the mask, line by line."""
    masker = Masker()
    sys.stdout, sys.stderr = _MaskedStream(sys.stdout, masker), _MaskedStream(sys.stderr, masker)


class _MaskedStream(io.TextIOBase):
    def __init__(self, stream: TextIO, masker: Masker) -> None:
        self._stream = stream
        self._masker = masker

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):  # a full disk costs the log, not the run
            self._stream.write(self._masker.mask(text))
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()
