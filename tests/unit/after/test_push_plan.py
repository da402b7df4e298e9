"""What a push would send: an allow-list, each file with its origin, no folder of this box in it, and no secret."""

import json
from pathlib import Path

import pytest

from tests.support.results import BASE, ended_run
from tuitune.after.ledger_facts import read_facts
from tuitune.after.push_plan import PushPlan, plan_push
from tuitune.errors import UserError
from tuitune.runs.directory import RunDirectory

REPO = "jane/captains-log"
SECRET = "hf_" + "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return ended_run(tmp_path)


def plan(run: RunDirectory, base: str | None = None) -> PushPlan:
    return plan_push(run.adapter, REPO, base=base, facts=read_facts(run))


def text_of(plan: PushPlan, name: str) -> str:
    source = next(file.source for file in plan.files if file.name == name)
    return (source if isinstance(source, bytes) else source.read_bytes()).decode()


def test_only_files_of_the_list_go_and_the_others_are_named(run: RunDirectory) -> None:
    found = plan(run)
    assert {file.name for file in found.files} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert set(found.left) == {"training_args.bin", "optimizer.pt", "trainer_state.json", "journal.jsonl"}


def test_every_file_tells_its_size_and_where_it_comes_from(run: RunDirectory) -> None:
    files = {file["name"]: file for file in plan(run).document()["files"]}
    weights = run.adapter / "adapter_model.safetensors"
    assert (files["adapter_model.safetensors"]["bytes"], files["adapter_model.safetensors"]["origin"]) == (
        weights.stat().st_size,
        str(weights),
    )
    assert files["README.md"]["origin"] == "made from the run's records"
    assert files["adapter_config.json"]["origin"].endswith("folders of this box taken out")


def test_the_base_model_is_named_for_others(run: RunDirectory) -> None:
    """Whoever loads the adapter elsewhere has no /home/jane."""
    assert json.loads(text_of(plan(run), "adapter_config.json"))["base_model_name_or_path"] == "SmolLM2-135M-Instruct"
    named = plan(run, base="HuggingFaceTB/SmolLM2-135M-Instruct")
    assert json.loads(text_of(named, "adapter_config.json"))["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert "base_model: HuggingFaceTB/SmolLM2-135M-Instruct" in text_of(named, "README.md")
    assert json.loads((run.adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == BASE, "the file here stays as it is"


def test_no_folder_of_this_box_is_in_what_goes(run: RunDirectory, tmp_path: Path) -> None:
    found = plan(run)
    for file in found.files:
        if not file.heavy:
            text = text_of(found, file.name)
            assert not any(folder in text for folder in ("/home/jane", "/root", "/tmp", str(tmp_path))), file.name


@pytest.mark.parametrize("file", ["chat_template.jinja", "tokenizer_config.json", "adapter_config.json", "tokenizer.json"])
def test_a_token_in_a_file_stops_the_push_and_is_not_shown(run: RunDirectory, file: str) -> None:
    path = run.adapter / file
    text = path.read_text()
    path.write_text(text[:-1] + f', "note": "{SECRET}"}}' if file.endswith(".json") else f"{text}\n{{# {SECRET} #}}")
    with pytest.raises(UserError, match=rf"a secret .* stands in {file}:\d+: nothing is sent") as told:
        plan(run)
    assert SECRET not in str(told.value)


def test_the_value_of_a_variable_named_like_a_secret_stops_it_too(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef0123")
    (run.adapter / "chat_template.jinja").write_text("{# 0123456789abcdef0123 #}")
    with pytest.raises(UserError, match=r"chat_template\.jinja:1"):
        plan(run)


def test_a_word_of_the_vocabulary_is_no_secret(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """DB_PASSWORD=password must not forbid every tokenizer that knows the word."""
    monkeypatch.setenv("DB_PASSWORD", "password")
    (run.adapter / "tokenizer.json").write_text('{"model": {"vocab": {"password": 7}}}')
    assert "tokenizer.json" in [file.name for file in plan(run).files]


def test_a_secret_in_the_recipe_is_masked_in_the_card(run: RunDirectory) -> None:
    run.recipe.write_text(run.recipe.read_text() + f"# {SECRET}\n")
    assert SECRET not in text_of(plan(run), "README.md")


@pytest.mark.parametrize(("name", "why"), [("captains-log", "say whose repository it is"), ("a b/c", "is no repository's name")])
def test_a_repository_needs_a_name(run: RunDirectory, name: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        plan_push(run.adapter, name)


def test_pickled_weights_are_not_published(run: RunDirectory) -> None:
    (run.adapter / "adapter_model.safetensors").rename(run.adapter / "adapter_model.bin")
    with pytest.raises(UserError, match="pickled adapters"):
        plan(run)
    run.checkpoints.mkdir()
    with pytest.raises(UserError, match="neither an adapter nor a model"):
        plan_push(run.checkpoints, REPO)


def test_a_link_that_leads_out_of_the_folder_sends_nothing(run: RunDirectory, tmp_path: Path) -> None:
    """An adapter from somebody else's archive must not send this box's files."""
    key = tmp_path / "id_ed25519"
    key.write_text("private")
    (run.adapter / "LICENSE").symlink_to(key)
    with pytest.raises(UserError, match="outside the folder: nothing is sent"):
        plan(run)
