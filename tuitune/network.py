"""Whether the Hub can be reached, found out once and quickly. The Hub client would retry for half a minute per file."""

import os
import socket
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tuitune.recipe.recipe import Recipe

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


def hub_names(recipe: Recipe) -> list[str]:
    """What of this recipe may come from the Hub, or go there: every name that is no path on this box."""
    model = recipe.model
    sources = [source["path"] for split in recipe.dataset.values() for source in split]
    names = [str(name) for name in (model["name_or_path"], model.get("adapter"), *sources) if name and not Path(name).is_absolute()]
    kernel = str(model.get("attn_implementation") or "")
    if "/" in kernel:  # attention kernels have Hub names too
        names.append(kernel)
    training = recipe.training
    if model.get("trust_remote_code") or training.get("push_to_hub"):  # a model's code may lie in another repository
        names.append(str(model["name_or_path"]))
    if "trackio" in str(training.get("report_to")) or str(training.get("report_to")) == "all":
        names.append("trackio")  # keeps its metrics in a Space
    return names


def settle_network(names: Sequence[str]) -> str | None:
    """Switch the Hub client to its cache when the Hub cannot be reached, or `names` is empty and nobody has a reason to ask it.

    Returns the sentence to tell when `names` want a Hub that is not there. Must run before huggingface_hub is imported, which reads
    its setting once.
    """
    if not names:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        return None
    host = hub_host(os.environ)
    if host is None or can_reach(host):
        return None
    os.environ["HF_HUB_OFFLINE"] = "1"
    return f"{host} cannot be reached: {', '.join(names)} can only come from the local cache"
