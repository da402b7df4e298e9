"""Versions of installed libraries: what importlib.metadata says, without importing it."""

import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.unit.test_import_rules import loaded_after
from tuitune.versions import TRAINING_STACK, installed


def test_the_versions_are_those_of_importlib_metadata() -> None:
    assert installed() == {name: metadata.version(name) for name in TRAINING_STACK}
    assert installed(("huggingface_hub", "ruamel.yaml")) == {name: metadata.version(name) for name in ("huggingface_hub", "ruamel.yaml")}


def test_the_first_folder_of_the_path_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch-9.9.9+own.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", ["/nowhere", str(tmp_path), *sys.path])
    assert installed(("torch",)) == {"torch": "9.9.9+own"}


def test_what_is_not_installed_has_no_version() -> None:
    assert installed(("no-such-package",)) == {"no-such-package": None}


def test_asking_does_without_the_slow_module() -> None:
    loaded_after("import sys\nfrom tuitune.versions import installed\ninstalled()\nassert 'importlib.metadata' not in sys.modules")
