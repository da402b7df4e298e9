"""The commands of the dataset view; their handlers are `action_…` methods of DatasetView."""

from tuitune.workbench.commands.registry import Command

COMMANDS: tuple[Command, ...] = (
    Command("data.find", "Find rows", ("slash",), "data", "find", "Search every row for a text or a regular expression", True),
    Command("data.next", "Next match", ("n",), "data", "next_match", "The next row that was searched for, or that is a duplicate"),
    Command("data.previous", "Previous match", ("N",), "data", "previous_match", "The row before"),
    Command("data.broken", "Next broken row", ("b",), "data", "next_broken", "The next row that cannot be read"),
    Command("data.mapping", "Map columns", ("m",), "data", "map_columns", "Say what each column is for, see how rows come out", True),
    Command("data.duplicates", "Duplicates", ("d",), "data", "duplicates", "Rows that are the same as an earlier one", True),
    Command("data.overlap", "Overlap", ("o",), "data", "overlap", "Rows that are in another file too: training data in the evaluation"),
    Command(
        "data.pane",
        "Table or row",
        ("tab",),
        "data",
        "switch_pane",
        "The keyboard goes from the table to the row, to the mapped row and back",
        True,
    ),
    Command("data.left", "Columns to the left", ("left",), "data", "columns_left", "The column before the first one shown"),
    Command("data.right", "Columns to the right", ("right",), "data", "columns_right", "Leave the first column shown out"),
    Command("data.again", "Read again", ("r",), "data", "read_again", "Open the file anew"),
    Command("data.cancel", "End the search", ("escape",), "data", "end_scan", "End a search or a count of duplicates that is going on"),
)
