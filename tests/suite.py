"""`python -m tests.suite`: the whole suite with two workers, which is what `make test` and CI run.

Beside another worker on two cores a test in a real terminal can be late whatever it waits for. What failed is therefore run once more,
alone, and named: it counts as failed when it fails again. More than a handful at once is no bad luck and is not tried again.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

FEW = 5


def main(arguments: Sequence[str] = ()) -> int:
    """pytest's exit code: 0 all passed, 1 tests failed, else it could not run. arguments: for pytest."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.xml"
        code = _pytest("-n", "2", "--dist", "loadgroup", f"--junit-xml={results}", "-o", "junit_family=xunit1", *arguments)
        failed = failures(results) if code == 1 else []
    if not 0 < len(failed) <= FEW:
        return code
    say(f"{len(failed)} failed beside another worker and run once more, alone:", failed)
    again = _pytest("-n", "0", *failed)
    if again == 0:
        say("Passed alone; look at them when they come back:", failed)
    return again


def failures(results: Path) -> list[str]:
    """The tests that failed, as pytest takes them: file::test[parameters]. results: a junit file of the family xunit1."""
    cases = ElementTree.parse(results).iter("testcase")
    broken = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    return [f"{case.get('file')}::{name_of(case)}" for case in broken]


def name_of(case: ElementTree.Element) -> str:
    """A test's name without the group that pytest-xdist writes behind it (test[parameters]@group)."""
    plain, bracket, rest = (case.get("name") or "").rpartition("]")
    return plain + bracket + rest.partition("@")[0]


def say(words: str, tests: Sequence[str]) -> None:
    sys.stdout.write("\n".join(["", words, *(f"  {test}" for test in tests), ""]))
    sys.stdout.flush()


def _pytest(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", "-q", *arguments]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
