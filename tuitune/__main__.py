"""`python -m tuitune`: the command line from a checkout."""

import sys

from tuitune.cli import main

sys.exit(main())
