"""The list of a recipe's problems as plain data: what is merged, in which order, what is stale, where each entry leads."""

from pathlib import Path

import pytest

from tuitune.preflight.cards import CPU
from tuitune.preflight.finding import Finding, Where
from tuitune.preflight.gate import Basis
from tuitune.preflight.preflight import Report
from tuitune.recipe.problems import Problem
from tuitune.workbench import problem_list
from tuitune.workbench.problem_list import Check, Target, counted, entries_of, headline, is_stale, place_words, target_of

RECIPE = Path("/w/demo.yaml")
TEXT = "task: sft\ntraining:\n  max_length: 64\ndataset:\n  train: [{path: a.jsonl}]\n"
KINDS = ("recipe", "tokens", "template", "data", "text")
BASIS = Basis(TEXT, (), ())


def problem(line: int, code: str = "RCP011", severity: str = "error") -> Problem:
    return Problem(code, severity, f"problem in line {line}", line, 3, line, 9, (), None)  # type: ignore[arg-type]


def finding(id: str, severity: str = "error", where: Where = Where(), **evidence: object) -> Finding:  # noqa: B008
    return Finding(id, severity, "title", f"{id} was found", where, evidence)  # type: ignore[arg-type]


def done(*findings: Finding, text: str = TEXT) -> Check:
    """A check that came to its end."""
    report = Report(RECIPE, text, CPU, list(findings), ran=["TOK01", "EMB01"])
    return Check(RECIPE, text, BASIS, list(findings), "", report)


def test_live_problems_come_by_their_position_then_findings_errors_first():
    check = done(finding("A1", "warning"), finding("A2", "info"), finding("A3"), finding("A4", "warning"), finding("A5"))
    entries = entries_of(RECIPE, [problem(2, severity="warning"), problem(5)], check, TEXT)
    assert [entry.id for entry in entries] == ["RCP011", "RCP011", "A3", "A5", "A1", "A4", "A2"]
    assert [entry.place for entry in entries[:2]] == ["demo.yaml:2:3", "demo.yaml:5:3"]


def test_a_problem_that_preflight_found_too_is_listed_once_under_the_checks_id():
    found = finding("TRN03", "error", Where(str(RECIPE), 3, 3), code="RCP011")
    (entry,) = entries_of(RECIPE, [problem(3)], done(found), TEXT)
    assert (entry.id, entry.problem is not None) == ("TRN03", True)


def test_a_problem_that_was_put_right_since_is_gone_from_the_findings():
    found = finding("TRN03", "error", Where(str(RECIPE), 3, 3), code="RCP011")
    assert entries_of(RECIPE, [], done(found), TEXT + "#") == []


def test_without_an_editor_preflights_own_findings_on_the_text_are_listed():
    found = finding("TRN03", "error", Where(str(RECIPE), 3, 3), code="RCP011")
    assert [entry.finding for entry in entries_of(RECIPE, None, done(found), None)] == [found]


@pytest.mark.parametrize(("text", "stale"), [(TEXT, False), (TEXT + " ", True), (None, False)])
def test_findings_are_stale_when_the_text_is_another(text, stale):
    check = done(finding("EMB01"))
    assert is_stale(check, text) is stale
    entries = entries_of(RECIPE, [problem(2)], check, text)
    assert [entry.stale for entry in entries] == [False, stale]
    assert counted(entries, "error") == (1 if stale else 2), "what is stale does not count"


def test_line_ends_alone_make_nothing_stale():
    assert not is_stale(done(text=TEXT.replace("\n", "\r\n")), TEXT)


def test_a_check_that_has_not_read_the_recipe_yet_is_not_stale():
    assert not is_stale(Check(RECIPE), TEXT)


def test_a_report_counts_for_the_same_basis_and_not_for_ever(monkeypatch):
    check = done()
    monkeypatch.setattr(problem_list, "monotonic", lambda: 100.0)
    check.ended = 90.0
    assert check.counts_for(BASIS)
    assert not check.counts_for(Basis(TEXT, (("a.jsonl", 1, 2),), ()))
    check.ended = 100.0 - problem_list.KEPT_S - 1
    assert not check.counts_for(BASIS)
    assert not Check(RECIPE, TEXT, BASIS, doing="").counts_for(BASIS), "a check that was ended has no report"


@pytest.mark.parametrize(
    ("check", "stale", "words"),
    [
        (None, False, ""),
        (Check(RECIPE), False, "preflight goes on: reading the recipe … (Alt+P ends it)"),
        (Check(RECIPE, doing=""), False, "preflight did not come to its end (Alt+P checks again)"),
        (done(), False, "preflight for CPU: nothing found, 2 checks made"),
        (done(finding("A"), finding("B"), finding("C", "info")), False, "preflight for CPU: 2 errors, 1 info, 2 checks made"),
        (done(finding("A", "warning")), True, "the recipe has changed since preflight (Alt+P checks again), which had found: 1 warning"),
    ],
)
def test_the_headline_says_what_preflight_does_or_found(check, stale, words):
    assert words in headline(check, stale, "Alt+P")
    assert bool(words) == bool(headline(check, stale, "Alt+P"))


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (Where("/w/demo.yaml", 5, 3, key="peft.r"), "demo.yaml:5:3"),
        (Where("/w/model/model.safetensors"), "model.safetensors"),
        (Where("/w/a.jsonl", 12, split="train", row=11), "a.jsonl:12 row 11"),
        (Where(key="model.dtype"), "model.dtype"),
        (Where("/w/a\x1b[31m.jsonl"), "a␛[31m.jsonl"),
        (Where(), ""),
    ],
)
def test_a_place_in_few_words(where, words):
    assert place_words(where) == words


@pytest.mark.parametrize(
    ("where", "target"),
    [
        (Where("/w/a.jsonl", 12, split="train", row=11, view="tokens"), Target("tokens", RECIPE, row=11)),
        (Where("/w/model/chat_template.jinja", view="template"), Target("template", RECIPE)),
        (Where("/w/a.jsonl", 13, split="train", row=11, view="dataset"), Target("data", Path("/w/a.jsonl"), 12)),
        (Where("/w/a.jsonl", 13, split="eval", row=11, view="dataset"), Target("data", Path("/w/a.jsonl"), 13)),
        (Where("/w/a.csv", 13, view="dataset"), Target("data", Path("/w/a.csv"), 12)),
        (Where("/w/demo.yaml", 9, 9, key="training.max_length", view="recipe"), Target("recipe", RECIPE, 3, 15)),
        (Where("/w/demo.yaml", 2, 1, key="training.packing", view="recipe"), Target("recipe", RECIPE, 2, 1)),
        (Where(), Target("recipe", RECIPE, 1, 1)),
        (Where("/w/model/config.json", view="alignment"), Target("text", Path("/w/model/config.json"))),
        (Where("/w/model/model.safetensors"), Target("text", Path("/w/model"))),
    ],
)
def test_every_finding_leads_somewhere(where, target):
    """A key of the recipe is looked up in the text as it is now; a view that is not there gives way to what is."""
    assert target_of(finding("X", "error", where), RECIPE, TEXT, KINDS) == target


def test_a_view_that_is_there_is_used():
    where = Where("/w/model/config.json", view="alignment")
    assert target_of(finding("X", "error", where), RECIPE, TEXT, (*KINDS, "alignment")) == Target("alignment", RECIPE)
