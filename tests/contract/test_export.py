"""A GGUF file is made by the converter that is there, and read back: template, stop tokens, and what it says beside the model."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.trained import Trained, train_and_save
from tuitune.after import export
from tuitune.after.gguf_file import find_converter
from tuitune.errors import UserError

CONVERTER = Path(__file__).parents[1] / "support" / "gguf_converter.py"


class Job:
    """What a job tells, kept."""

    def __init__(self, trained: Trained, out: Path, **args: Any) -> None:
        self.args = {"source": str(trained.run.path), "to": "gguf", "quant": "Q8_0", "out": str(out), "check": True, "snippets": True}
        self.args |= {"converter": str(CONVERTER), **args}
        self.run, self.workspace = trained.run, trained.workspace
        self.warnings: list[str] = []

    def progress(self, done: int, total: int, what: str) -> None: ...

    def state(self, state: str, why: str | None = None) -> None: ...

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train_and_save(tmp_path_factory.mktemp("lora") / "it")


def test_a_gguf_file_has_template_and_stops_and_says_the_same(lora: Trained, tmp_path: Path) -> None:
    job = Job(lora, tmp_path / "it.gguf")
    result = export.run(job)  # type: ignore[arg-type]
    assert (result["path"], result["kind"], result["model"]) == (str(tmp_path / "it.gguf"), "gguf", str(lora.run.path / "merged"))
    assert result["file"]["problems"] == job.warnings == []
    assert result["file"]["stops"] == {"eos": "<|im_end|>"}
    assert "Q8_0" in result["file"]["types"]
    check = result["check"]
    assert check["passed"], check["words"]
    assert 0 < check["relative"] < check["allowed"]
    names = {Path(path).name for path in result["snippets"]}
    assert names == {"serve-vllm-lora.sh", "serve-vllm.sh", "serve-llama.cpp.sh", "Modelfile"}
    text = (tmp_path / "Modelfile").read_text()
    assert 'TEMPLATE """{{ range .Messages }}' in text
    assert 'PARAMETER stop "<|im_end|>"' in text


def test_the_merged_model_of_the_same_adapter_is_used_again(lora: Trained, tmp_path: Path) -> None:
    export.run(Job(lora, tmp_path, to="hf", snippets=False))  # type: ignore[arg-type]
    before = (lora.run.path / "merged" / "merge.json").stat().st_mtime_ns
    export.run(Job(lora, tmp_path, to="hf", snippets=False))  # type: ignore[arg-type]
    assert (lora.run.path / "merged" / "merge.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("template", "its chat template is not the one that was trained with"),
        ("stop", "answers end with '<|im_end|>', and the file's stop tokens are none: answers will run on"),
        ("weights", "it does not say what the reference says"),
    ],
)
def test_a_converter_that_loses_something_is_found_out(
    lora: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, told: str
) -> None:
    monkeypatch.setenv("TUITUNE_TEST_GGUF", fault)
    job = Job(lora, tmp_path / "it.gguf", check=fault == "weights")
    export.run(job)  # type: ignore[arg-type]
    assert any(told in warning for warning in job.warnings), job.warnings


def test_a_converter_that_fails_leaves_no_file_and_its_last_words(lora: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUITUNE_TEST_GGUF", "fail")
    with pytest.raises(UserError, match="the converter failed: Model ZorkForCausalLM is not supported"):
        export.run(Job(lora, tmp_path / "out" / "it.gguf"))  # type: ignore[arg-type]
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_for_everybody_is_the_merged_model_with_how_to_serve_it(lora: Trained, tmp_path: Path) -> None:
    result = export.run(Job(lora, tmp_path, to="hf"))  # type: ignore[arg-type]
    assert result["path"] == str(lora.run.path / "merged")
    assert "serve-vllm.sh" in [path.name for path in Path(result["path"]).iterdir()]


def test_without_a_converter_there_is_one_sentence_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"git clone .*ggml-org/llama.cpp, then set LLAMA_CPP_DIR to it or name"):
        find_converter(None, {"PATH": str(tmp_path)})
    with pytest.raises(UserError, match=r"has no convert_hf_to_gguf.py"):
        find_converter(None, {"LLAMA_CPP_DIR": str(tmp_path)})
    script = tmp_path / "convert_hf_to_gguf.py"
    script.write_text("")
    assert find_converter(None, {"LLAMA_CPP_DIR": str(tmp_path)}) == [sys.executable, str(script)]
    assert find_converter(str(tmp_path), {}) == [sys.executable, str(script)]


@pytest.mark.skipif("LLAMA_CPP_DIR" not in os.environ, reason="LLAMA_CPP_DIR names no llama.cpp checkout")
def test_llama_cpps_own_converter_takes_what_a_merge_writes(tmp_path: Path) -> None:
    from tests.support.small_models import make_small_model

    model = make_small_model(tmp_path / "model", "smollm2", hidden_size=64, intermediate_size=64)
    out = tmp_path / "it.gguf"

    class Plain(Job):
        def __init__(self) -> None:
            self.args = {"source": str(model), "to": "gguf", "quant": "F16", "out": str(out), "check": True, "snippets": True}
            self.run, self.workspace, self.warnings = Log(tmp_path), tmp_path, []

    result = export.run(Plain())  # type: ignore[arg-type]
    assert result["file"]["problems"] == []
    assert result["check"]["passed"], result["check"]["words"]


class Log:
    def __init__(self, log: Path) -> None:
        self.log = log
