"""`python -m tuitune.hub RUN`: the hub of one run. Started by tuitune.hub.launch, not by hand."""

import sys
from pathlib import Path

from tuitune.errors import UserError
from tuitune.hub.supervisor import supervise


def main() -> int:
    """Supervise the run named on the command line."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m tuitune.hub RUN\n")
        return 2
    try:
        return supervise(Path(sys.argv[1]))
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
