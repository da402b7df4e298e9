"""Versions of the libraries a run depends on, read without importing them."""

import os
import re
import sys

TRAINING_STACK = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes", "tokenizers", "safetensors")
_ENDING = ".dist-info"


def installed(names: tuple[str, ...] = TRAINING_STACK) -> dict[str, str | None]:
    """{package: version, or None when it is not installed}."""
    found = _by_folders(names)
    return {name: found.get(_plain(name)) or _version(name) for name in names}


def _by_folders(names: tuple[str, ...]) -> dict[str, str]:
    """What the names of the installed packages' folders say (torch-2.11.0+cu130.dist-info): a millisecond, where importing
    importlib.metadata takes 25."""
    wanted = {_plain(name) for name in names}
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            entries = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in entries:
            name, _, version = entry.removesuffix(_ENDING).partition("-")
            if entry.endswith(_ENDING) and version and _plain(name) in wanted:
                found.setdefault(_plain(name), version)
    return found


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None
