"""Preflight for tests of the workbench: finds what a test says, at once or when it is let go on."""

import threading
from collections.abc import Callable
from typing import Any

from tuitune.analyst.client import Cancelled
from tuitune.preflight.cards import CPU
from tuitune.preflight.finding import Finding
from tuitune.preflight.preflight import Report
from tuitune.workbench.problem_list import Check


class FakePreflight:
    """Put it in the place of check_control.run_preflight. `find` says what there is in a recipe's text; while `go_on` is not set it does
    not end."""

    def __init__(self, *findings: Finding) -> None:
        self.find: Callable[[str], list[Finding]] = lambda text: list(findings)
        self.runs = 0
        self.valid = True
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, app: Any, check: Check, found: Callable[[Finding], None], progress: Callable[[str], None]) -> Report:
        self.runs += 1
        text = check.recipe.read_bytes().decode()
        progress("checking: rows")
        findings = self.find(text)
        for finding in findings:
            found(finding)
        while not self.go_on.wait(0.01):
            if check.cancel.is_set():
                raise Cancelled
        return Report(check.recipe, text, CPU, findings, ran=["TOK01", "EMB01"], valid=self.valid)
