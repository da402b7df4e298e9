"""The catalogue is whole: every check of preflight-checks.md is there, documents itself and names its stage."""

import re

import pytest

from tuitune.preflight.registry import Check, all_checks, find_check

GROUPS = {"TOK": 18, "EMB": 10, "TPL": 20, "DAT": 25, "PREF": 5, "PEFT": 12, "QNT": 6, "TRN": 16, "ENV": 11}  # TPL21 is DAT12


def test_every_check_of_the_catalogue_is_there() -> None:
    wanted = {f"{group}{number:02}" for group, count in GROUPS.items() for number in range(1, count + 1)}
    assert {check.id for check in all_checks()} == wanted | {"PRE02", "REW01"}


@pytest.mark.parametrize("check", all_checks(), ids=lambda check: check.id)
def test_a_check_documents_itself(check: Check) -> None:
    assert check.stages
    assert check.title[0].islower() or check.title.split()[0].isupper() or not check.title[0].isalpha()
    for part in ("Do: ", "Known from: "):
        assert re.search(rf"\b{part}", check.explanation), f"{check.id} does not say {part!r}"
    assert find_check(check.id.lower()) == check
