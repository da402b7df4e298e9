"""The order of a lent machine's work: what has cards runs, the rest waits, and a step that hangs takes nothing with it."""

import io
import tarfile
from contextlib import redirect_stdout
from pathlib import Path

from tests.bench.gpu_chain import Step, read, wait, work, write


def test_steps_run_beside_each_other_as_far_as_cards_go_and_tell_what_came_out(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    steps = [
        Step("first", 1, 30, 'sleep 1; echo "{{}}" > {out}; echo card $CUDA_VISIBLE_DEVICES'),
        Step("wrong", 1, 30, "echo it broke; exit 3"),
        Step("both", 2, 30, "echo cards $CUDA_VISIBLE_DEVICES"),
        Step("hangs", 1, 1, "sleep 500 & sleep 500"),
        Step("more than there are", 3, 30, "echo never"),
        Step("crowd", 1, 30, "ls {home}/both.log && echo there were others", when="crowd"),
        Step("beside", 1, 30, "ls {home}/both.log || echo nothing yet", when="beside"),
    ]
    write(tmp_path, steps)
    work(tmp_path, ["0", "1"])
    assert [step.state for step in read(tmp_path)] == ["done", "failed", "done", "too long", "failed", "done", "done"]
    said = io.StringIO()
    write(tmp_path, [step for step in read(tmp_path) if step.cards < 3])
    with redirect_stdout(said):
        wait(tmp_path, 1, tmp_path / "out")
    lines = said.getvalue().splitlines()
    assert lines[0].endswith("card 0")
    assert lines[1].endswith("it broke")
    assert set(lines[2].split()[-1].split(",")) == {"0", "1"}
    assert lines[4].endswith("there were others")
    assert lines[5].endswith("nothing yet")
    with tarfile.open(tmp_path / "out" / "chain.tgz") as archive:
        assert {"first.json", "first.log", "hangs.log", "steps.json"} <= set(archive.getnames())
