"""A push carries exactly the files that were shown, and goes on where it was cut off: the real client against a stand-in of the Hub."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub_server import TOKEN, WritableHub
from tests.support.results import ended_run
from tuitune.after.ledger_facts import read_facts
from tuitune.after.push_plan import PushPlan, plan_push
from tuitune.errors import UserError
from tuitune.runs.directory import RunDirectory

REPO = "jane/captains-log"
SENT = ["README.md", "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "tokenizer.json", "tokenizer_config.json"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WritableHub]:
    """The stand-in, and a client that knows its token and goes nowhere else."""
    from huggingface_hub import constants

    with WritableHub(tmp_path / "hub") as server:
        for name, value in server.environment(tmp_path / "home").items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "home" / "token"))
        yield server


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return ended_run(tmp_path)


def plan(run: RunDirectory, **options: bool) -> PushPlan:
    return plan_push(run.adapter, REPO, facts=read_facts(run), **options)


def pushed(hub: WritableHub, run: RunDirectory, **options: bool):  # type: ignore[no-untyped-def]
    from tuitune.after.push import push

    return push(plan(run, **options), endpoint=hub.endpoint, wait=0.01)


def test_exactly_the_files_of_the_plan_arrive_in_a_private_repository(hub: WritableHub, run: RunDirectory) -> None:
    shown = plan(run)
    done = pushed(hub, run)
    assert sorted(hub.names(REPO)) == sorted(file.name for file in shown.files) == SENT
    for file in shown.files:
        here = file.source if isinstance(file.source, bytes) else file.source.read_bytes()
        assert (hub.repo(REPO) / file.name).read_bytes() == here
    assert hub.private[REPO] is True
    assert done.private
    assert sorted(done.sent) == SENT
    assert [commit["files"] for commit in hub.commits] == [[file.name for file in shown.files]]


def test_a_second_push_sends_nothing_and_a_changed_file_goes_alone(hub: WritableHub, run: RunDirectory) -> None:
    first = pushed(hub, run)
    again = pushed(hub, run)
    assert (again.sent, sorted(again.unchanged), again.commit) == ((), SENT, first.commit)
    assert len(hub.commits) == 1
    (run.adapter / "chat_template.jinja").write_text("{{ messages }}")
    assert pushed(hub, run).sent == ("chat_template.jinja",)
    assert hub.commits[-1]["files"] == ["chat_template.jinja"]
    assert len(hub.uploads) == 1, "the weights went once"


@pytest.mark.parametrize("where", ["/lfs/", "/commit/", "/preupload/", "/batch", "/create"])
def test_a_line_that_breaks_is_taken_up_again(hub: WritableHub, run: RunDirectory, where: str) -> None:
    hub.broken.append(where)
    assert sorted(pushed(hub, run).sent) == SENT
    assert sorted(hub.names(REPO)) == SENT
    assert len(hub.uploads) == 1, "what was uploaded before the line broke is not sent again"


def test_a_busy_hub_is_asked_again(hub: WritableHub, run: RunDirectory) -> None:
    hub.busy.append("/commit/")
    assert sorted(pushed(hub, run).sent) == SENT


def test_a_line_that_stays_broken_is_a_sentence_and_the_next_push_goes_on(hub: WritableHub, run: RunDirectory) -> None:
    hub.broken += ["/commit/"] * 20
    with pytest.raises(UserError, match="the same command goes on where this one was"):
        pushed(hub, run)
    assert hub.commits == []
    hub.broken.clear()
    assert sorted(pushed(hub, run).sent) == SENT
    assert len(hub.uploads) == 1


def test_a_wrong_token_is_a_sentence_without_the_token(hub: WritableHub, run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "wrongwrongwrong")
    with pytest.raises(UserError, match=r"does not know this token \(401\): run `hf auth login`") as told:
        pushed(hub, run)
    assert "wrongwrong" not in str(told.value)
    assert hub.private == {}


def test_without_a_token_nothing_is_tried(hub: WritableHub, run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match="there is no Hugging Face token"):
        pushed(hub, run)
    assert hub.requests == []


def test_a_token_that_may_only_read_is_a_sentence(hub: WritableHub, run: RunDirectory) -> None:
    hub.readonly = True
    with pytest.raises(UserError, match=r"may not write to jane/captains-log \(403\)"):
        pushed(hub, run)


def test_a_public_repository_gets_nothing_unless_it_was_meant(hub: WritableHub, run: RunDirectory) -> None:
    pushed(hub, run, public=True)
    assert hub.private[REPO] is False
    (run.adapter / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(UserError, match="exists and is public, and a push is private unless told otherwise"):
        pushed(hub, run)
    assert len(hub.commits) == 1


def test_no_token_is_anywhere_afterwards(hub: WritableHub, run: RunDirectory, tmp_path: Path) -> None:
    pushed(hub, run)
    hub.broken += ["/commit/"] * 20
    (run.adapter / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(UserError) as told:
        pushed(hub, run)
    assert TOKEN not in str(told.value)
    assert "Signature" not in str(told.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()] == []


def test_what_was_pushed_loads_from_the_hub_again(hub: WritableHub, run: RunDirectory, tmp_path: Path) -> None:
    from huggingface_hub import snapshot_download

    pushed(hub, run)
    folder = snapshot_download(REPO, endpoint=hub.endpoint, cache_dir=tmp_path / "cache")
    assert sorted(os.listdir(folder)) == SENT
    assert json.loads((Path(folder) / "adapter_config.json").read_text())["base_model_name_or_path"] == "SmolLM2-135M-Instruct"
