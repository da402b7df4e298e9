"""Figures of an evaluation, forgetting, and the page that tells them."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from tuitune.after.figures import Figure, Scores, figures
from tuitune.after.forgetting import LIMIT, changes, warning
from tuitune.after.report import markdown, write
from tuitune.errors import UserError
from tuitune.trainer.forgetting import Text


def by_name(scores: dict[str, list[Scores]]) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures(scores)}


class TestFigures:
    def test_a_loss_is_weighted_by_tokens_and_a_perplexitys_difference_is_a_factor(self) -> None:
        scores = {
            "base": [Scores(nats=20.0, tokens=10), Scores(nats=2.0, tokens=1)] * 5,
            "adapter": [Scores(nats=10.0, tokens=10), Scores(nats=1.0, tokens=1)] * 5,
        }
        found = by_name(scores)
        nll, perplexity = found["nll"], found["perplexity"]
        assert (nll.values, nll.rows, nll.tokens) == ({"base": 2.0, "adapter": 1.0}, 10, 55)
        assert nll.difference == -1.0
        assert nll.interval is not None
        assert nll.interval.as_list() == pytest.approx([-1.0, -1.0])
        assert perplexity.values["base"] == pytest.approx(math.exp(2))
        assert perplexity.difference == pytest.approx(math.exp(-1))
        assert nll.clear
        assert perplexity.clear

    def test_a_share_counts_the_rows_where_both_sides_have_it(self) -> None:
        base = [Scores(exact=False), Scores(exact=True), Scores(exact=None), Scores(exact=False)]
        adapter = [Scores(exact=True), Scores(exact=True), Scores(exact=True), Scores(exact=False)]
        figure = by_name({"base": base, "adapter": adapter})["exact"]
        assert (figure.rows, figure.values["base"], figure.values["adapter"]) == (3, pytest.approx(1 / 3), pytest.approx(2 / 3))
        assert figure.difference == pytest.approx(1 / 3)
        assert not figure.clear

    def test_what_nobody_measured_has_no_figure(self) -> None:
        assert figures({"model": [Scores()]}) == []
        assert set(by_name({"model": [Scores(nats=1.0, tokens=1, ended="length")]})) == {"nll", "perplexity", "stopped"}

    def test_one_side_alone_has_an_interval_of_its_own_and_no_difference(self) -> None:
        figure = by_name({"model": [Scores(regex=number < 5) for number in range(20)]})["regex"]
        assert figure.difference is None
        interval = figure.intervals["model"]
        assert interval is not None
        assert interval.low < 0.25 < interval.high


class TestForgetting:
    TEXTS = [Text(skill, "…") for skill in ("facts", "code") for _ in range(6)]

    def losses(self, facts: float, code: float) -> list[tuple[float, int]]:
        return [(rise * 10 + 0.1 * (number % 3), 10) for rise in (facts, code) for number in range(6)]

    def test_each_skill_and_all_have_the_change_and_its_interval(self) -> None:
        facts, code, everything = changes(self.TEXTS, self.losses(2.0, 3.0), self.losses(2.0, 3.4))
        assert (facts.skill, facts.texts, facts.tokens, facts.difference) == ("facts", 6, 60, 0.0)
        assert code.difference == pytest.approx(0.4)
        assert everything.difference == pytest.approx(0.2)
        assert [one.forgotten for one in (facts, code)] == [False, True]

    def test_a_skill_is_forgotten_when_the_whole_interval_is_above_the_limit(self) -> None:
        """One text of six that got much worse may be chance: without it the rise is nothing."""
        after = self.losses(2.0, 3.0)
        after[6] = (after[6][0] + 30.0, 10)
        code = changes(self.TEXTS, self.losses(2.0, 3.0), after)[1]
        assert code.difference > 5 * LIMIT
        assert not code.forgotten

    def test_the_warning_names_the_skills_and_the_remedy(self) -> None:
        told = warning(changes(self.TEXTS, self.losses(2.0, 3.0), self.losses(2.2, 3.9)))
        assert told is not None
        assert re.search(r"code 3\.01 → 3\.91, .*facts 2\.01 → 2\.21", told)
        for remedy in ("weight", "fewer epochs", "learning_rate"):
            assert remedy in told
        assert warning(changes(self.TEXTS, self.losses(2.0, 3.0), self.losses(1.5, 3.0))) is None


def document(**changed: Any) -> dict[str, Any]:
    scores = {
        "base": [Scores(nats=20.0 + number, tokens=10, answer="#### 1", ended="length", regex=False) for number in range(8)],
        "adapter": [
            Scores(nats=10.0 + number, tokens=10, answer=f"#### {number}", ended="stop token", regex=number == 1) for number in range(8)
        ],
    }
    rows = [
        {
            "row": number,
            "file": "/data/test.jsonl",
            "line": number + 1,
            "gold": "#### 1",
            "sides": {side: rows[number].as_dict() for side, rows in scores.items()},
        }
        for number in range(8)
    ]
    return {
        "schema": 1,
        "created": 1.7e9,
        "seconds": 12.0,
        "device": "CPU",
        "source": {"words": "gsm8k-1", "kind": "adapter", "base": "org/model", "precision": "4 bit"},
        "sides": ["base", "adapter"],
        "data": {"files": ["/data/test.jsonl"], "rows": 8, "done": 8, "unmeasured": 0},
        "generation": {"max_new_tokens": 64},
        "figures": [figure.as_dict() for figure in figures(scores)],
        "forgetting": None,
        "harness": None,
        "warnings": [],
        "rows": rows,
        **changed,
    }


class TestPage:
    def test_it_has_a_line_a_metric_with_both_sides_difference_interval_and_rows(self) -> None:
        page = markdown(document())
        assert "| metric | base | adapter | difference | 95 % interval | rows |" in page
        assert re.search(r"\| NLL, nats a token \| 2\.350 \| 1\.350 \| -1\.000 \| -1\.000 to -1\.000 \| 8 \|", page)
        assert re.search(r"\| perplexity \| 10\.49 \| 3\.857 \| × 0\.368 \|", page)
        assert re.search(r"\| same answer by the pattern \| 0\.0 % \| 12\.5 % \| \+12\.5 \|", page)
        assert "1 became right, 0 became wrong" in page

    def test_a_single_model_has_its_own_interval(self) -> None:
        alone = {"model": [Scores(nats=float(number), tokens=3) for number in range(1, 9)]}
        page = markdown(document(sides=["model"], figures=[figure.as_dict() for figure in figures(alone)], rows=[]))
        assert "| metric | model | 95 % interval | rows |" in page

    def test_forgetting_is_a_table_and_its_warning_stands_on_top(self) -> None:
        texts = [Text("co|de", "…")] * 6
        found = changes(texts, [(10.0, 10)] * 6, [(14.0, 10)] * 6)
        told = warning(found)
        page = markdown(
            document(forgetting={"probe": "builtin", "limit": LIMIT, "skills": [one.as_dict() for one in found]}, warnings=[told])
        )
        assert "| co\\|de (forgotten) | 1.000 | 1.400 | +0.400 |" in page
        assert page.index("has forgotten") < page.index("## On held-out rows")

    def test_what_a_model_or_a_file_says_stays_text(self) -> None:
        """Neither a terminal escape nor the end of a code block nor a link comes through."""
        hostile = "\x1b[2J```\n# owned\n[x](http://evil)"
        changed = document(source={"words": "a\x1b[31m|`<b>", "kind": "model", "base": "", "precision": "float32"})
        for row in changed["rows"]:
            row["sides"]["adapter"]["answer"] = hostile
        page = markdown(changed)
        assert "\x1b" not in page
        assert "````text" in page
        assert "# Evaluation of a␛\\[31m\\|\\`\\<b\\>" in page

    def test_it_lies_in_the_jobs_run_and_a_copy_in_the_evaluated_one_for_nobody_else(self, tmp_path: Path) -> None:
        job, run = tmp_path / "eval", tmp_path / "run"
        job.mkdir()
        run.mkdir()
        places = [write(job, document(), run) for _ in range(2)]
        assert places[0]["copy"] != places[1]["copy"]
        assert len(list((run / "evaluations").iterdir())) == 4
        assert json.loads((job / "evaluation.json").read_text())["rows"][1]["sides"]["adapter"]["regex"] is True
        assert (run / "evaluations" / Path(places[0]["copy"]).name).read_text() == (job / "evaluation.md").read_text()
        assert all(path.stat().st_mode & 0o077 == 0 for path in (*job.iterdir(), *(run / "evaluations").iterdir()))

    def test_a_disk_that_refuses_is_a_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="cannot be written"):
            write(tmp_path / "gone", document(), None)
