"""The report of an evaluation: a page that a person reads in a minute (Markdown), and every row's figures (JSON).

Both lie in the directory of the evaluation's own run, beside its journal, and a copy in the run that was evaluated, as
evaluations/<time>.md and .json: whoever looks at a training finds there what became of it, and a copy stays readable when the evaluation's
run is deleted or either directory is moved to another box, as a link would not.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tuitune.errors import UserError
from tuitune.files import write_atomically
from tuitune.text import printable

NAME = "evaluation"  # of the two files in the evaluation's own run, before .md and .json
EXAMPLES = 3  # answers shown that were wrong and are right, and the other way round
_LONGEST = 400  # characters of a text in the page


def write(folder: Path, document: Mapping[str, Any], evaluated: Path | None) -> dict[str, str]:
    """Write both files into `folder` (0600, for they hold data) and copies into the evaluated run; returns where they lie. UserError when
    the disk refuses."""
    texts = {".md": markdown(document), ".json": json.dumps(document, ensure_ascii=False, indent=1)}
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(document["created"]))
    places = {}
    try:
        for ending, text in texts.items():
            write_atomically(folder / f"{NAME}{ending}", text, mode=0o600)
            places["report" if ending == ".md" else "figures_file"] = str(folder / f"{NAME}{ending}")
        if evaluated is not None:
            copies = evaluated / "evaluations"
            copies.mkdir(mode=0o700, exist_ok=True)
            stem = _free(copies, stamp)
            for ending, text in texts.items():
                write_atomically(copies / f"{stem}{ending}", text, mode=0o600)
            places["copy"] = str(copies / f"{stem}.md")
    except OSError as error:
        raise UserError(f"{error.filename or folder}: the report cannot be written ({error.strerror}); make room there") from error
    return places


def _free(folder: Path, stamp: str) -> str:
    """A name that no evaluation of the same second has."""
    names = (stamp if number == 1 else f"{stamp}-{number}" for number in range(1, 1000))
    return next(name for name in names if not (folder / f"{name}.md").exists())


def markdown(document: Mapping[str, Any]) -> str:
    """The page. What comes from models and data is shown, never obeyed, in code blocks that it cannot end."""
    sides = document["sides"]
    blocks = [f"# Evaluation of {_inline(document['source']['words'])}", _facts(document)]
    blocks += [f"**{_inline(text)}**" for text in document["warnings"]]
    if document["figures"]:
        blocks += ["## On held-out rows", _table(document["figures"], sides), _reading(sides)]
    if document["forgetting"]:
        blocks += ["## Forgetting", _forgetting(document["forgetting"])]
    if document["harness"]:
        blocks += ["## Public benchmarks (lm-evaluation-harness)", _harness(document["harness"])]
    blocks += _examples(document)
    return "\n\n".join(blocks) + "\n"


def _facts(document: Mapping[str, Any]) -> str:
    source, data = document["source"], document["data"]
    base = f" on {_inline(source['base'])}" if source["kind"] == "adapter" else ""
    lines = [f"- model: {source['kind']}{base}, weights in {source['precision']}, on {_inline(document['device'])}"]
    if data:
        cut = f", {data['unmeasured']} without a token that counts within max_length" if data["unmeasured"] else ""
        lines.append(f"- data: {data['rows']} rows of {', '.join(_inline(file) for file in data['files'])}{cut}")
    if document["generation"]:
        lines.append(f"- answers: greedy, at most {document['generation']['max_new_tokens']} tokens, through the model's own template")
    stopped = f", stopped after {data['done']} rows" if data and data["done"] < data["rows"] else ""
    lines.append(f"- {time.strftime('%Y-%m-%d %H:%M', time.localtime(document['created']))}, {document['seconds']:.0f} s{stopped}")
    return "\n".join(lines)


def _table(figures: Sequence[Mapping[str, Any]], sides: Sequence[str]) -> str:
    head = ["metric", *sides, *(["difference", "95 % interval"] if len(sides) == 2 else ["95 % interval"]), "rows"]
    rows = []
    for figure in figures:
        cells = [f"{figure['title']}"]
        cells += [number(figure["values"][side], figure) for side in sides]
        if len(sides) == 2:
            cells += [signed(figure["difference"], figure), between(figure["interval"], figure)]
        else:
            cells.append(between(figure["intervals"][sides[0]], figure, of_value=True))
        rows.append([*cells, str(figure["rows"])])
    return _lines(head, rows)


def _reading(sides: Sequence[str]) -> str:
    what = "NLL is of what counts for the loss in training, as a rule the gold answer. "
    if len(sides) < 2:
        return what + "Interval: bootstrap over rows (NLL, perplexity), Wilson (shares)."
    return what + (
        "Interval: of the difference, paired bootstrap over rows, 10,000 draws; one that leaves out 0 (perplexity: × 1) is more than "
        "chance among such rows."
    )


def number(value: float | None, figure: Mapping[str, Any]) -> str:
    """A figure in its own unit: shares in per cent."""
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if _is_share(figure) else f"{value:.4g}" if figure["name"] == "perplexity" else f"{value:.3f}"


def signed(value: float | None, figure: Mapping[str, Any]) -> str:
    """A difference with its sign; of perplexity a factor."""
    if value is None:
        return "–"
    if figure["difference_is"] == "factor":
        return f"× {value:.3f}"
    return f"{100 * value:+.1f}" if _is_share(figure) else f"{value:+.3f}"


def between(interval: Sequence[float] | None, figure: Mapping[str, Any], *, of_value: bool = False) -> str:
    """An interval in the unit of what it belongs to."""
    if interval is None:
        return "too few rows"
    if not of_value and interval[0] == interval[1] == 0:
        return "no row differs"
    write = number if of_value else signed
    return " to ".join(write(end, figure) for end in interval)


def _is_share(figure: Mapping[str, Any]) -> bool:
    return figure["name"] not in ("nll", "perplexity")


def _forgetting(forgetting: Mapping[str, Any]) -> str:
    head = ["skill", "before", "after", "difference", "95 % interval", "texts"]
    rows = []
    for one in forgetting["skills"]:
        interval = " to ".join(f"{end:+.3f}" for end in one["interval"]) if one["interval"] else "too few texts"
        name = _cell(one["skill"]) + (" (forgotten)" if one["forgotten"] else "")
        rows.append([name, f"{one['before']:.3f}", f"{one['after']:.3f}", f"{one['difference']:+.3f}", interval, str(one["texts"])])
    told = (
        f"Loss on general texts ({_inline(forgetting['probe'])}), nats a token; a rise is told as forgotten when its whole interval lies "
        f"above {forgetting['limit']}."
    )
    return _lines(head, rows) + "\n\n" + told


def _harness(results: Mapping[str, Any]) -> str:
    rows = [
        [
            _cell(one["task"]),
            _cell(one["metric"]),
            one["side"],
            f"{one['value']:.4f}",
            f"± {one['stderr']:.4f}" if one["stderr"] is not None else "–",
        ]
        for one in results["results"]
    ]
    return _lines(["task", "metric", "model", "value", "standard error"], rows) + f"\n\nlm_eval {_inline(results['version'])}."


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows))


def _examples(document: Mapping[str, Any]) -> list[str]:
    """Rows whose answer became right or wrong, or without two sides and metrics some answers."""
    rows = [row for row in document["rows"] if any("answer" in scores for scores in row["sides"].values())]
    if not rows:
        return []
    *_, last = document["sides"]
    judged = next((name for name in ("regex", "exact") if any(name in row["sides"].get(last, {}) for row in rows)), None)
    shown = rows[:EXAMPLES]
    blocks = ["## Answers"]
    if len(document["sides"]) == 2 and judged:
        first = document["sides"][0]
        became = {
            verdict: [row for row in rows if _verdicts(row, first, last, judged) == verdict] for verdict in ((False, True), (True, False))
        }
        shown = [row for verdict in became for row in became[verdict][:EXAMPLES]] or shown
        blocks.append(f"{len(became[False, True])} became right, {len(became[True, False])} became wrong.")
    for row in shown:
        parts = [f"{_inline(Path(row['file']).name)}:{row['line']}", _code("gold", row["gold"] or "")]
        for side, scores in row["sides"].items():
            verdict = {True: "right", False: "wrong", None: ""}[scores.get(judged) if judged else None]
            parts.append(_code(f"{side} {verdict}".strip(), scores.get("answer") or ""))
        blocks.append("\n\n".join(parts))
    return blocks


def _verdicts(row: Mapping[str, Any], first: str, last: str, judged: str) -> tuple[bool | None, bool | None]:
    return row["sides"].get(first, {}).get(judged), row["sides"].get(last, {}).get(judged)


def _code(title: str, text: str) -> str:
    shown = printable(text, newlines=True, limit=_LONGEST)
    fence = "```"
    while fence in shown:
        fence += "`"
    return f"{title}:\n\n{fence}text\n{shown}\n{fence}"


def _inline(text: str) -> str:
    """Foreign words inside a line: nothing of Markdown's left in them that would be more than a letter."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#" else char for char in printable(str(text)))


_cell = _inline
