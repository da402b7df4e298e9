"""A recipe that keeps off the GPU gets the CPU, whatever is in the box."""

from pathlib import Path

import pytest
import torch

from tuitune.recipe.document import parse
from tuitune.recipe.recipe import from_document
from tuitune.trainer.box import training_fill_ins
from tuitune.trainer.build import begin
from tuitune.trainer.methods import method_for

RECIPE = "task: sft\nmodel: {name_or_path: m}\ndataset: {train: [{path: t.jsonl}]}\n"


@pytest.mark.parametrize(
    ("extra", "cuda"),
    [
        ("", True),
        ("launch: {gpus: 1}", True),
        ("training: {use_cpu: false}", True),
        ("launch: {gpus: cpu}", False),
        ("launch: {gpus: 0}", False),
        ("training: {use_cpu: true}", False),
    ],
)
def test_the_recipe_chooses_between_gpu_and_cpu(extra: str, cuda: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method_for("sft")  # imported before the box looks as if it had a GPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    (tmp_path / "t.jsonl").write_text('{"text": "a"}\n')
    built = begin(from_document(parse(RECIPE + extra), tmp_path / "r.yaml", tmp_path))
    assert built.box.cuda is cuda
    filled = training_fill_ins(built.recipe.training, built.box, tmp_path)
    assert filled["bf16"].value is cuda


def test_the_journal_is_told_what_validate_warns_of(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "a"}\n')
    wishes = "training: {resume_from_checkpoint: /nonexistent}\n"
    built = begin(from_document(parse(RECIPE + wishes), tmp_path / "r.yaml", tmp_path))
    assert [warning.partition(" ")[0] for warning in built.warnings] == ["training.resume_from_checkpoint"]
