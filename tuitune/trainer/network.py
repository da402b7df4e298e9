"""Whether the Hub can be reached, found out once and quickly. The Hub client would retry for half a minute per file."""

import os
import socket
import threading
from collections.abc import Mapping
from urllib.parse import urlsplit

PATIENCE_S = 3.0


def hub_host(environment: Mapping[str, str]) -> str | None:
    """The Hub's host name where a direct connection says something: None when offline mode is on already or a proxy is in between."""
    names = {name.lower() for name, value in environment.items() if value}
    if environment.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE") or names & {"https_proxy", "http_proxy", "all_proxy"}:
        return None
    return urlsplit(environment.get("HF_ENDPOINT") or "https://huggingface.co").netloc.rpartition("@")[2]


def can_reach(host: str) -> bool:
    """Whether a connection to `host` (NAME or NAME:PORT, port 443 by default) opens within PATIENCE_S seconds."""
    name, _, port = host.partition(":")
    opened = threading.Event()

    def connect() -> None:  # in a thread, because nothing limits how long a resolver takes
        try:
            socket.create_connection((name, int(port or 443)), timeout=PATIENCE_S).close()
            opened.set()
        except (OSError, ValueError):
            pass

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return opened.is_set()


def work_offline_when_unreachable() -> str | None:
    """Switch the Hub client to its cache when the Hub cannot be reached; returns the sentence to tell, None when all is well.

    Must run before huggingface_hub is imported, which reads its setting once.
    """
    host = hub_host(os.environ)
    if host is None or can_reach(host):
        return None
    os.environ["HF_HUB_OFFLINE"] = "1"
    return f"{host} cannot be reached: models and data come from the local cache only"
