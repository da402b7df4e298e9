"""A box without network learns it in seconds, before the Hub client starts its retries."""

import socket
import time

from tuitune.trainer import network
from tuitune.trainer.network import can_reach, hub_host


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


def test_a_silent_network_costs_seconds_only(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(network, "PATIENCE_S", 0.1)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: time.sleep(60))
    started = time.monotonic()
    assert not can_reach("huggingface.co")
    assert time.monotonic() - started < 10
