"""A render that takes too long is ended: by an exception where Python can, by a signal where it cannot."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from tuitune.analyst.time_limit import TooLong, time_limit


def test_a_loop_is_ended_even_where_every_exception_is_caught() -> None:
    def stubborn() -> None:
        while True:
            try:
                while True:
                    pass
            except Exception:
                pass

    began = time.monotonic()
    with pytest.raises(TooLong), time_limit(0.2):
        stubborn()
    assert time.monotonic() - began < 2


def test_what_is_quick_is_left_alone_and_nothing_stays_behind() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(0.2):
        pass
    time.sleep(0.3)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == signal.getitimer(signal.ITIMER_VIRTUAL)[0] == 0


def test_what_python_cannot_interrupt_ends_the_process() -> None:
    code = "from tuitune.analyst.time_limit import time_limit\nwith time_limit(0.3):\n    sum(range(10 ** 12))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=False)
    assert done.returncode == -signal.SIGVTALRM


def test_beside_the_main_thread_there_is_no_limit_and_no_error() -> None:
    seen = []

    def work() -> None:
        with time_limit(0.1):
            seen.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]
