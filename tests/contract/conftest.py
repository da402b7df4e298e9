"""One warm analyst for the contract tests of a worker process: its imports take longer than most of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tuitune.analyst.client import Analyst


@pytest.fixture(scope="session")
def analyst() -> Iterator[Analyst]:
    """A warm analyst; every request of it has a worker of its own, so that no test sees what another asked."""
    analyst = Analyst()
    analyst.start()
    yield analyst
    analyst.close()


@dataclass(frozen=True)
class Ran:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def command(analyst: Analyst, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """(words) → what `tuitune WORDS` does, in this process and with the shared analyst for the one that it would start."""
    from tuitune import cli
    from tuitune.analyst import report
    from tuitune.template import report as template_report

    class Shared:
        request = staticmethod(analyst.request)

        def close(self) -> None:
            """Others go on with it."""

    for module in (report, template_report):
        monkeypatch.setattr(module, "Analyst", Shared)

    def run(*words: str) -> Ran:
        capsys.readouterr()  # what the test itself has printed
        code = cli.main(list(words))
        return Ran(code, *capsys.readouterr())

    return run
