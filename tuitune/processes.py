"""What a Python process of ours is started with."""

import os


def our_environment() -> dict[str, str]:
    """This process's environment, with a PYTHONPATH that finds the tuitune that runs here, wherever the other is started."""
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    inherited = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([ours, inherited]) if inherited else ours}
