"""The commands of the token view, and the one that opens it; handlers are `action_…` methods of the view or the app."""

from tuitune.workbench.commands.registry import Command

COMMANDS: tuple[Command, ...] = (
    Command("tokens.pane", "Rows or tokens", ("tab",), "tokens", "switch_pane", "The keyboard goes to the rows or to the tokens", True),
    Command("tokens.fault", "Next fault", ("n",), "tokens", "next_fault", "The next row that is cut, dropped or not in the loss", True),
    Command(
        "tokens.all", "All rows in figures", ("a",), "tokens", "whole_set", "Lengths, roles, what is cut, dropped and twice there", True
    ),
    Command(
        "tokens.filter", "Rows with faults", ("f",), "tokens", "filter_rows", "Only rows that are cut, dropped, masked, twice there", True
    ),
    Command("tokens.find", "Search all rows", ("slash",), "tokens", "find", "A text, a pattern or a token id, after the template"),
    Command("tokens.role", "Next role", ("h",), "tokens", "next_role", "The histogram of another role"),
    Command("tokens.ids", "Token ids", ("i",), "tokens", "token_ids", "Numbers instead of texts, and back"),
    Command("tokens.sequence", "Next sequence", ("s",), "tokens", "next_sequence", "Rejected beside chosen, or the row's next pack"),
    Command("tokens.copy", "Copy the row", ("c",), "tokens", "copy", "The sequence on screen to your clipboard: its text, or its ids"),
    Command("tokens.again", "Prepare again", ("r",), "tokens", "inspect_again", "Look again: the recipe or the data have changed"),
)
OPEN: tuple[Command, ...] = (
    Command(
        "rows.inspect", "See what is trained", ("f7",), "recipe", "inspect_rows", "The rows as the trainer sees them, token by token", True
    ),
)
