"""`python -m tuitune.dataset.reader`: serve rows until the end of input. Started by tuitune.dataset.reader.client."""

import os
import sys


def main() -> int:
    """The whole life of the reader."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is not an answer
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from tuitune.dataset.reader.operations import Files, scans, steps
    from tuitune.dataset.reader.server import ReaderServer

    files = Files()
    ReaderServer(steps(files), scans(files), files.count_on, sys.stdin.fileno(), answers).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
