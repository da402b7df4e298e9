"""The commands of the template view, and the one that opens it; handlers are `action_…` methods of the view or the recipe editor."""

from tuitune.workbench.commands.registry import Command

COMMANDS: tuple[Command, ...] = (
    Command("template.next", "Next row", ("n",), "template", "next_row", "The render of the next row", True),
    Command("template.previous", "Previous row", ("p",), "template", "previous_row", "The render of the row before"),
    Command("template.fault", "Next failing row", ("f",), "template", "next_failing", "The next row that fails the prefix test or differs"),
    Command("template.turn", "One turn more", ("right_square_bracket",), "template", "next_turn", "What the next turn adds", True),
    Command("template.turn_back", "One turn less", ("left_square_bracket",), "template", "previous_turn", "The turns before, alone"),
    Command("template.side", "Chosen or rejected", ("s",), "template", "other_side", "The other conversation of a preference pair"),
    Command("template.diff", "Compare", ("d",), "template", "compare", "Against a file, a model or what TRL makes of it", True),
    Command("template.mark", "Mark answers", ("g",), "template", "mark", "{% generation %} round what the assistant writes, proven", True),
    Command("template.write", "Write the marked template", ("w",), "template", "write", "Beside the recipe, after a question"),
    Command("template.pane", "Source or render", ("tab",), "template", "switch_pane", "The keyboard goes to the source or the render"),
    Command("template.back", "Source", ("escape",), "template", "back", "Back from a comparison or from markers to the source"),
    Command("template.again", "Render again", ("r",), "template", "render_again", "Look again: recipe, data or template have changed"),
)
OPEN: tuple[Command, ...] = (
    Command("template.open", "See the chat template", ("shift+f7",), "recipe", "show_template", "Source, render of the rows, prefix test"),
)
