"""The command line is a contract: names, JSON, exit codes; others build on it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import journals
from tuitune import cli
from tuitune.command_line import build_parser
from tuitune.errors import UserError
from tuitune.runs.directory import create_run
from tuitune.runs.manifest import Manifest, write_manifest

CONTRACT = {
    "open": {"directory", "no_mouse", "colors", "slow"},
    "demo": {"directory", "headless", "no_mouse", "colors", "slow"},
    "validate": {"recipe", "json"},
    "doctor": {"json"},
    "check": {"recipe", "fix", "undo", "gpu", "list", "explain", "json"},
    "inspect": {"recipe", "row", "find", "all", "json"},
    "template": {"recipe", "row", "diff", "mark_generation", "write", "json"},
    "plan": {"recipe", "gpu", "json"},
    "train": {"recipe", "detach", "force", "stop_on_interrupt", "plain", "json"},
    "resume": {"run", "start", "detach", "stop_on_interrupt", "runs", "plain", "json"},
    "attach": {"run", "runs", "plain", "json"},
    "runs": {"run", "runs", "json"},
    "send": {"run", "op", "args", "runs", "json"},
    "compare": {"run", "runs", "json"},
    "slurm": {"recipe", "json"},
    "chat": {"model", "against", "system", "four_bit", "cpu", "idle", "whole", "json"}
    | {"temperature", "top_p", "top_k", "max_new_tokens", "repetition_penalty", "seed"},
    "eval": {"source", "data", "columns", "metric", "answer_regex", "against", "rows", "max_new_tokens", "forgetting", "harness"}
    | {"four_bit", "cpu", "detach", "json"},
    "merge": {"source", "out", "dtype", "max_shard_size", "base", "no_check", "cpu", "json"},
    "export": {"source", "to", "quant", "out", "snippets", "converter", "base", "no_check", "cpu", "json"},
    "push": {"source", "repo", "merged", "public", "dry_run", "message", "base", "json"},
    "sweep": {"target", "set", "parallel", "metric", "goal", "stop_rule", "table", "force", "detach", "json"},
}
ARGUMENTS = {
    "open": [],
    "demo": [],
    "validate": ["r.yaml"],
    "doctor": [],
    "check": ["r.yaml"],
    "inspect": ["r.yaml"],
    "template": ["r.yaml"],
    "plan": ["r.yaml"],
    "train": ["r.yaml"],
    "slurm": ["r.yaml"],
    "chat": ["r"],
    "eval": ["r"],
    "resume": ["r"],
    "attach": ["r"],
    "runs": [],
    "send": ["r", "stop"],
    "compare": ["r", "s"],
    "merge": ["r"],
    "export": ["r", "--to", "hf"],
    "push": ["r", "a/b"],
    "sweep": ["r"],
}


def tuitune(*words: str, cwd: Path, stdin: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tuitune", *words], cwd=cwd, stdin=stdin, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_command_line_is_exactly_what_others_build_on() -> None:
    parser = build_parser()
    found = {name: set(vars(parser.parse_args([name, *words]))) - {"command", "debug"} for name, words in ARGUMENTS.items()}
    assert found == CONTRACT
    assert set(cli.COMMANDS) == set(CONTRACT)


def test_a_folder_is_opened_and_a_subcommand_wins_over_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setitem(cli.COMMANDS, "open", lambda args: seen.append(args.directory) or 0)
    monkeypatch.setitem(cli.COMMANDS, "runs", lambda args: seen.append("runs command") or 0)
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    for words in ([], [str(tmp_path)], ["./runs"], ["--no-mouse"], ["--colors=16", "x"], ["--colors", "16", "x"], ["runs"]):
        assert cli.main(words) == 0
    assert seen == [".", str(tmp_path), "./runs", ".", "x", "x", "runs command"]


def test_an_error_for_the_user_is_one_sentence_on_stderr_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: object) -> int:
        raise UserError("row 3 of a.jsonl is not JSON; mend or remove it", exit_code=1)

    monkeypatch.setitem(cli.COMMANDS, "runs", refuse)
    assert cli.main(["runs"]) == 1
    assert capsys.readouterr().err == "tuitune: row 3 of a.jsonl is not JSON; mend or remove it\n"
    with pytest.raises(UserError):
        cli.main(["runs", "--debug"])


@pytest.mark.parametrize("words", [["no-such-folder"], ["train"], ["send", "x", "stop", "novalue"], ["--frobnicate"]])
def test_wrong_usage_exits_with_2_and_says_why(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "runs" / "x").mkdir(parents=True)
    done = tuitune(*words, cwd=tmp_path)
    assert done.returncode == 2, done
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr


def test_the_workbench_without_a_terminal_says_so(tmp_path: Path) -> None:
    done = tuitune(str(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert "terminal" in done.stderr
    assert "Traceback" not in done.stderr


def test_validate_prints_one_json_document_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("name: x\ntask: [\n")
    done = tuitune("validate", "broken.yaml", "--json", cwd=tmp_path)
    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert document["schema"] == 1
    assert document["problems"][0]["line"] >= 2


@pytest.mark.parametrize("command", ["validate", "train"])
def test_a_missing_recipe_is_a_sentence(command: str, tmp_path: Path) -> None:
    done = tuitune(command, "nowhere.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "nowhere.yaml" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_an_unknown_run_names_the_runs_there_are(tmp_path: Path) -> None:
    done = tuitune("attach", "nope", cwd=tmp_path)
    assert done.returncode == 1
    assert "nope" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_runs_is_an_empty_list(tmp_path: Path) -> None:
    done = tuitune("runs", "--json", cwd=tmp_path)
    assert json.loads(done.stdout) == {"schema": 1, "runs": []}
    assert done.returncode == 0


def test_of_one_run_the_list_says_why_it_is_slow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Dearest first, with what to change; --json has the figures."""
    journals.write_run(tmp_path, waits=True)
    assert cli.main(["runs", "gsm8k", "--runs", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    for piece in (
        "gsm8k-20261120-101500",
        "No MFU: there is no GPU whose peak it could be compared with.",
        " 22 %  28 % of the computed tokens are padding\n       → padding_free: auto joins the rows of a micro-batch: the same update",
        " 20 %  steps wait 20 % of their time for the next rows",
    ):
        assert piece in shown
    assert cli.main(["runs", "gsm8k", "--runs", str(tmp_path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [run["id"] for run in document["runs"]] == ["gsm8k-20261120-101500"]
    assert [one["kind"] for one in document["why_slow"]["findings"]] == ["padding", "data", "evaluation"]


def test_the_table_of_runs_shows_whole_names_in_a_pipe(tmp_path: Path) -> None:
    run = create_run(tmp_path / "runs", "x" * 60, "")
    write_manifest(run, Manifest(name="x", state="done", step=3, max_steps=30, loss=0.5, created=1e9))
    done = tuitune("runs", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].split()[:4] == [run.name, "done", "3/30", "0.5"]
