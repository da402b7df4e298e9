"""The analyst as a process."""

import os
import subprocess
import sys

SERVES_NOTHING = """
import os, sys
from tuitune.analyst import server
server.Server.serve = lambda self: print("sees GPUs", repr(os.environ["CUDA_VISIBLE_DEVICES"]), file=sys.stderr)
from tuitune.analyst.__main__ import main
sys.exit(main())
"""


def test_it_takes_no_gpu_even_when_the_user_chose_one() -> None:
    """Found on the H200: with CUDA_VISIBLE_DEVICES=0 its workers, which are forked, fell over CUDA."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "0"}
    done = subprocess.run([sys.executable, "-c", SERVES_NOTHING], env=environment, input="", capture_output=True, text=True, timeout=120)
    assert "sees GPUs ''" in done.stderr
