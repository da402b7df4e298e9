"""Of several processes, the one that failed first is the cause; what the others say is its consequence."""

import json
import signal
from pathlib import Path

import pytest

from tuitune.hub.ranks import first_to_fail, words_of
from tuitune.runs.directory import RunDirectory, create_run
from tuitune.runs.resume import ends_of, log_of

HEAD = 'Traceback (most recent call last):\n  File "x.py", line 3, in step\n'
GLOO = HEAD + "RuntimeError: [pair.cc:537] Read error [127.0.0.1]:59596: Connection reset by peer."
NCCL = HEAD + "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:2251, remote process exited"
OOM = HEAD + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
OWN = HEAD + "ValueError: no such column"
TORCHRUN = (
    "W1128 02:03:55.183000 10258 torch/distributed/elastic/multiprocessing/api.py:1028] Sending process 10262 closing signal SIGTERM\n"
    "E1128 02:03:55.199000 10258 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: 1) local_rank: 0 (pid: 10263)\n"
    "rank 0 (pid 10263) ended with exit code 1\n"
)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return create_run(tmp_path, "demo", "name: demo\n")


def write(run: RunDirectory, *ends: tuple[int, int, str]) -> Path:
    """(rank, exit code, its log), as torchrun tells them and in its order."""
    first = log_of(run, 1)
    for rank, _, text in ends:
        (run.log / f"1.rank{rank}.txt").write_text(text)
    ends_of(run, 1).write_text(json.dumps({"ends": [{"rank": rank, "exitcode": code, "pid": 7} for rank, code, _ in ends]}))
    return first


@pytest.mark.parametrize(
    ("ends", "rank", "kind", "words"),
    [
        ([(1, -9, "step 3"), (0, 1, GLOO)], 1, "killed", "rank 1 ended first (SIGKILL, log/1.rank1.txt): somebody or something killed it"),
        ([(0, 1, GLOO), (1, -9, "step 3")], 1, "killed", "rank 1 ended first (SIGKILL"),
        ([(0, 1, NCCL), (1, 1, OOM)], 1, "gpu_oom", "rank 1 ended first (exit code 1, log/1.rank1.txt): the GPU ran out of memory: halve"),
        ([(0, 1, OWN), (1, -15, "")], 0, "error", "it stopped with an error: ValueError: no such column"),
        ([(2, -11, "Fatal Python error: Segmentation fault\n"), (0, -15, ""), (1, -9, "")], 2, "native_crash", "SIGSEGV"),
        ([(1, 1, OWN), (0, -9, "killed by torchrun, because it did not end")], 1, "error", "ValueError"),
        ([(0, 1, NCCL), (1, -15, "")], 0, "nccl", "(NCCL)"),
        ([(1, 1, "train.jsonl: row 3 is not JSON; mend it"), (0, 1, GLOO)], 1, "error", "row 3 is not JSON; mend it"),
    ],
)
def test_the_first_that_failed_of_itself_is_the_cause(
    run: RunDirectory, ends: list[tuple[int, int, str]], rank: int, kind: str, words: str
) -> None:
    fault = first_to_fail(write(run, *ends), 0)
    assert fault is not None
    assert (fault.rank, fault.kind) == (rank, kind)
    assert words in fault.hint
    assert "\n" not in fault.hint


def test_when_the_kernel_had_no_ram_left_a_killed_rank_says_so(run: RunDirectory) -> None:
    fault = first_to_fail(write(run, (1, -signal.SIGKILL, "step 3"), (0, 1, GLOO)), 1)
    assert fault is not None
    assert fault.kind == "host_oom"
    assert "the kernel killed it because RAM ran out" in fault.hint


def test_what_torchrun_prints_into_the_first_ones_log_is_not_taken_for_its_last_words(run: RunDirectory) -> None:
    fault = first_to_fail(write(run, (0, 1, OWN + "\n" + TORCHRUN), (1, -15, "")), 0)
    assert fault is not None
    assert fault.hint.endswith("it stopped with an error: ValueError: no such column")
    assert words_of(log_of(run, 1), 0)[-1] == "ValueError: no such column"


@pytest.mark.parametrize("text", [None, "", "[]", '{"ends": [{"rank": "a"}]}', '{"ends": []}'])
def test_without_torchruns_word_nothing_is_said_of_ranks(run: RunDirectory, text: str | None) -> None:
    if text is not None:
        ends_of(run, 1).write_text(text)
    assert first_to_fail(log_of(run, 1), 0) is None
