"""A box without network learns it in seconds, before the Hub client starts its retries."""

import os
import socket
import time
from pathlib import Path

import pytest

from tuitune import network
from tuitune.network import can_reach, hub_host, hub_names, settle_network
from tuitune.recipe.document import parse
from tuitune.recipe.recipe import from_document


def test_the_hub_is_where_the_environment_says() -> None:
    assert hub_host({}) == "huggingface.co"
    assert hub_host({"HF_ENDPOINT": "https://user:word@mirror.example:8443/x"}) == "mirror.example:8443"


def test_nothing_is_concluded_offline_or_behind_a_proxy() -> None:
    assert hub_host({"HF_HUB_OFFLINE": "1"}) is None
    assert hub_host({"HTTPS_PROXY": "http://proxy.example"}) is None
    assert hub_host({"https_proxy": ""}) == "huggingface.co"


def test_an_open_port_is_reached_and_a_closed_one_or_an_unknown_name_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert can_reach(f"127.0.0.1:{port}")
    assert not can_reach(f"127.0.0.1:{port}")
    assert not can_reach("name.invalid")


def test_a_silent_network_costs_seconds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "PATIENCE_S", 0.1)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: time.sleep(60))
    started = time.monotonic()
    assert not can_reach("huggingface.co")
    assert time.monotonic() - started < 10


def names(model: str, data: str = "/data/train.jsonl", training: str = "") -> list[str]:
    text = f"task: sft\nmodel: {{{model}}}\ndataset:\n  train: [{{path: {data}}}]\ntraining: {{{training}}}\n"
    return hub_names(from_document(parse(text), Path("/work/recipe.yaml"), Path("/work")))


def test_names_that_are_no_paths_come_from_the_hub() -> None:
    assert names("name_or_path: acme/model, adapter: acme/adapter", "acme/data") == ["acme/model", "acme/adapter", "acme/data"]
    assert names("name_or_path: ./model, adapter: /adapter", "train.jsonl") == []


def test_what_a_local_model_may_still_want_from_the_hub() -> None:
    assert names("name_or_path: ./model, trust_remote_code: true") == ["/work/model"]
    assert names("name_or_path: ./model", training="push_to_hub: true") == ["/work/model"]
    assert names("name_or_path: ./model", training="report_to: [trackio]") == ["trackio"]
    assert names("name_or_path: ./model", training="report_to: none") == []
    assert names("name_or_path: ./model, attn_implementation: kernels-community/flash-attn") == ["kernels-community/flash-attn"]


def test_a_recipe_of_local_files_never_asks_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(network, "can_reach", lambda host: pytest.fail(f"asked {host}"))
    assert settle_network([]) is None
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_a_hub_out_of_reach_is_told_with_what_was_wanted_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(network, "can_reach", lambda host: False)
    assert settle_network(["acme/model"]) == "huggingface.co cannot be reached: acme/model can only come from the local cache"
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(network, "can_reach", lambda host: True)
    assert settle_network(["acme/model"]) is None
    assert "HF_HUB_OFFLINE" not in os.environ
