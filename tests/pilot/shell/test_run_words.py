"""What F5 says before it starts anything."""

import pytest

from tuitune.workbench.gpu_feed import GpuNow
from tuitune.workbench.gpu_reading import GpuReading, GpuSample
from tuitune.workbench.run_control import describe, method, where

GIB = 1 << 30


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "Full sft"),
        ({"peft": {"r": 8}, "task": "dpo"}, "LoRA dpo"),
        ({"peft": {"r": 8}, "quantization": {"load_in_4bit": True}}, "QLoRA sft"),
        ({"peft": {"r": 8}, "quantization": "broken"}, "LoRA sft"),
        ({"peft": None, "quantization": {"load_in_4bit": True}}, "Full sft"),
    ],
)
def test_method(data, words):
    assert method(data) == words


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ({"train": [{"path": "a.jsonl"}]}, "on a.jsonl"),
        ({"train": [{"path": "a"}, {"path": "b"}, {"path": "c"}, "d"]}, "on a, b and 2 more"),
        ({"train": "just.jsonl"}, "on just.jsonl"),
        ({"train": [{}]}, "on ?"),
        ({}, "on no data"),
        ("broken", "on no data"),
    ],
)
def test_data(dataset, words):
    assert describe({"dataset": dataset}, None)[1] == words


def test_names_are_printable():
    lines = describe({"model": {"name_or_path": "a\x1b[31m"}, "dataset": {"train": ["b\nc"]}}, None)
    assert lines[:2] == ["Full sft of a␛[31m", "on b␊c"]


def test_where(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpu = GpuReading(0, "u", "NVIDIA H200", used=10 * GIB, total=140 * GIB)
    assert where(None) == "on the GPU if there is one, else on the CPU"
    assert where(GpuNow(GpuSample(error="no driver"))) == "no NVIDIA GPU: trains on the CPU"
    assert where(GpuNow(GpuSample((gpu,)))) == "on NVIDIA H200, 130 of 140 GiB free"
    fuller = GpuReading(0, "v", "NVIDIA A10", used=20 * GIB, total=24 * GIB)
    second = GpuReading(1, "u", "NVIDIA H200", used=10 * GIB, total=140 * GIB)
    assert where(GpuNow(GpuSample((fuller, second)))) == "on GPU 1 (NVIDIA H200), 130 of 140 GiB free", "the one the hub takes"
    assert where(GpuNow(GpuSample((gpu,))), cpu=True) == "on the CPU, as the recipe says"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "v")
    assert where(GpuNow(GpuSample((fuller, second)))) == "on GPU 0 (NVIDIA A10), 4 of 24 GiB free"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert where(GpuNow(GpuSample((gpu,)))) == "CUDA_VISIBLE_DEVICES hides every GPU: trains on the CPU"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert where(GpuNow(GpuSample((GpuReading(0, "u", "NVIDIA H200"),)))) == "on NVIDIA H200"
