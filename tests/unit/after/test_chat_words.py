"""A chat without its models: parameters, kept rows, the state that its journal tells, which sides are loaded, and what they need."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.after.test_source import a_run, adapter, model
from tuitune.after import chat_start
from tuitune.after.chat_params import Params, parse
from tuitune.after.chat_rows import append_row
from tuitune.after.chat_start import needed_bytes, start_chat
from tuitune.after.chat_state import ChatState, reduce
from tuitune.after.source import find_source
from tuitune.dataset.load import load_split
from tuitune.errors import UserError

MESSAGES = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2\u2028"}]


# --- parameters -------------------------------------------------------------------------------------------------------------------


def test_parameters_are_typed_as_they_are_shown() -> None:
    params = Params().with_values(parse("temperature=0.2, top_k=0 seed=7"))
    assert (params.temperature, params.top_k, params.seed) == (0.2, 0, 7)
    assert params.with_values(parse("seed=auto")).seed is None
    assert Params().with_values(parse(params.words())) == params


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("temperature", "is not NAME=VALUE"),
        ("heat=3", "no sampling parameter; they are temperature"),
        ("temperature=-1", "temperature is a number from 0 to 100, not -1"),
        ("top_p=0", "top_p is a number above 0 to 1"),
        ("top_k=2.5", "top_k is a whole number"),
        ("max_new_tokens=true", "max_new_tokens is a whole number"),
        ("repetition_penalty=NaN", "repetition_penalty is a number"),
    ],
)
def test_a_wrong_parameter_is_told_with_its_range(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Params().with_values(parse(text))


# --- kept rows --------------------------------------------------------------------------------------------------------------------


def test_a_kept_turn_is_a_row_that_a_recipe_reads(tmp_path: Path) -> None:
    path = tmp_path / "data" / "chat.jsonl"
    assert append_row(path, MESSAGES) == 1
    path.write_text(path.read_text().rstrip("\n"))  # an editor has taken the last line feed
    assert append_row(path, MESSAGES) == 2
    assert load_split([{"path": str(path), "columns": {"messages": "messages"}}]).rows == [{"messages": MESSAGES}] * 2


def test_a_row_goes_into_no_other_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rows are appended to a \.jsonl file"):
        append_row(tmp_path / "recipe.yaml", MESSAGES)
    with pytest.raises(UserError, match="cannot be written"):
        append_row(Path("/proc/nothing/chat.jsonl"), MESSAGES)


# --- the journal ------------------------------------------------------------------------------------------------------------------


def told(*records: dict[str, Any]) -> ChatState:
    state = ChatState()
    for record in records:
        reduce(state, record)
    return state


READY = {"ev": "chat", "sides": [{"side": "left", "words": "a"}, {"side": "right", "words": "b"}], "system": "be short"}
RUNNING = {"ev": "state", "s": "running"}


def turn(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {"ev": "turn", "turn": number, "text": "hi", "system": "be short", "sides": ["left", "right"], "params": {"seed": 3}, **fields}


def spoken(side: str, *pieces: str, ended: str = "stop token") -> list[dict[str, Any]]:
    return [{"ev": "say", "turn": 1, "side": side, "text": piece} for piece in pieces] + [
        {"ev": "said", "turn": 1, "side": side, "ended": ended, "tokens": 2}
    ]


def test_both_sides_of_a_turn_are_followed_until_both_have_ended() -> None:
    state = told(READY, RUNNING, turn(), *spoken("left", "hel", "lo"))
    assert state.busy
    for record in spoken("right", "hey"):
        reduce(state, record)
    assert not state.busy
    assert {key: one.text for key, one in state.turns[0].answers.items()} == {"left": "hello", "right": "hey"}
    assert state.messages("left") == [
        {"role": "system", "content": "be short"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
    ]


def test_an_interrupted_turn_is_over_for_the_sides_that_were_not_asked() -> None:
    state = told(READY, RUNNING, turn(), *spoken("left", "hel", ended="interrupted"))
    assert not state.busy
    assert state.messages("right") == []


@pytest.mark.parametrize("ended", ["interrupted", "length", "memory", ""])
def test_an_answer_that_was_cut_off_is_no_training_row(ended: str) -> None:
    state = told(READY, RUNNING, turn(), *spoken("left", "hel", ended=ended))
    assert state.messages("left") == []


def test_an_answer_that_is_given_again_takes_the_place_of_the_one_before() -> None:
    state = told(READY, RUNNING, turn(), *spoken("left", "no"), turn(again=True), *spoken("left", "yes"))
    assert [one.text for one in state.turns[0].answers.values()] == ["yes"]
    assert len(state.turns) == 1


@pytest.mark.parametrize(
    "record", [{}, {"ev": "said", "turn": 9}, {"ev": "turn", "sides": 3}, {"ev": "chat", "sides": [None]}, {"ev": "say"}]
)
def test_records_of_any_shape_are_survived(record: dict[str, Any]) -> None:
    told(READY, record, turn(params=None), {"ev": "probabilities", "turn": 1, "side": "left", "tokens": [{"p": "x", "top": [1]}, 4]})


# --- which models -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What jobs were started with; a run `gsm`, its adapter and two models are in tmp_path."""
    model(tmp_path / "models" / "base")
    model(tmp_path / "other")
    adapter(a_run(tmp_path).adapter)
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(chat_start, "start_job", lambda kind, args, source, workspace: found.append(args))
    return found


@pytest.mark.parametrize("against", ["base", "models/base"])
def test_an_adapter_against_its_base_is_one_model_in_memory(tmp_path: Path, asked: list[dict[str, Any]], against: str) -> None:
    start_chat("gsm", tmp_path, against=against)
    first, second = asked[0]["sides"]
    assert (first["adapter"], second["adapter"]) == (True, False)
    assert first["source"] == second["source"]


def test_two_other_models_are_loaded_both(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    start_chat("gsm", tmp_path, against="other", cpu=True, system="be short", four_bit=False)
    args = asked[0]
    assert [Path(side["source"]).name for side in args["sides"]] == ["adapter", "other"]
    assert (args["gpus"], args["system"], args["four_bit"]) == ("cpu", "be short", False)


def test_a_model_beside_itself_is_refused(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    with pytest.raises(UserError, match="would be beside itself"):
        start_chat("gsm", tmp_path, against="gsm")
    with pytest.raises(UserError, match="is a base model itself"):
        start_chat("other", tmp_path, against="base")


def test_what_models_need_of_a_card_is_read_in_their_headers(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    tensors = {
        "model.embed_tokens.weight": {"dtype": "BF16", "shape": [1000, 100], "data_offsets": [0, 200_000]},
        "model.layers.0.mlp.up_proj.weight": {"dtype": "BF16", "shape": [1000, 100], "data_offsets": [200_000, 400_000]},
    }
    header = json.dumps(tensors).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(400_000))
    source = find_source("m", tmp_path)
    assert needed_bytes([source], four_bit=False) == 400_000 + chat_start.BESIDE
    assert needed_bytes([source], four_bit=True) == 200_000 + 51_590 + chat_start.BESIDE
    assert needed_bytes([source, source], four_bit=None) == 800_000 + chat_start.BESIDE
