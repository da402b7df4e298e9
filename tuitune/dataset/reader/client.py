"""Starts the reader and speaks with it; loads nothing of it."""

import sys

from tuitune.analyst.client import Service

COMMAND = [sys.executable, "-P", "-m", "tuitune.dataset.reader"]


class Reader(Service):
    """The process that serves rows; started by the first request."""

    def __init__(self) -> None:
        super().__init__(COMMAND, "reader")
