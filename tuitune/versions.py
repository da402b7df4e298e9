"""Versions of the libraries a run depends on, read without importing them."""

from importlib.metadata import PackageNotFoundError, version

TRAINING_STACK = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes", "tokenizers", "safetensors")


def installed(names: tuple[str, ...] = TRAINING_STACK) -> dict[str, str | None]:
    """{package: version, or None when it is not installed}."""
    return {name: _version(name) for name in names}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
