"""The one exception whose text is meant for the user."""


class UserError(Exception):
    """Something the user can put right.

    The message is one clear sentence that says what is wrong, where (file, line, row) and what to do. The command line prints it
    on stderr and exits with `exit_code`: 1 for findings or a failed run, 2 for wrong usage. The workbench shows it as a problem.
    """

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class NotHere(Exception):
    """A check has rightly nothing to look at: no adapter in the recipe, weights that are still to be fetched, another kind of data."""
