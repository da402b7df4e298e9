"""The commands of the workbench itself; their handlers are `action_…` methods of Workbench."""

from tuitune.workbench.commands.registry import ALWAYS, Command

COMMANDS: tuple[Command, ...] = (
    Command(
        "quick.open",
        "Go to file or run",
        ("ctrl+p",),
        ALWAYS,
        "quick_open",
        "Files, recipes and runs by name; type ? for the other modes",
        True,
    ),
    Command("quick.commands", "All commands", ("f1",), ALWAYS, "quick_commands", "The command palette: every command by name", True),
    Command("quick.symbols", "Go to key", ("alt+o",), "recipe", "quick_symbols", "Jump to a section or key of the recipe"),
    Command("quick.line", "Go to line", ("ctrl+g",), "recipe data", "quick_line", "Jump to a line by its number"),
    Command("run.start", "Run this recipe", ("f5", "ctrl+r"), "recipe", "run_start", "Save, check and train the recipe", True),
    Command("run.stop", "Save and stop the run", ("shift+f5",), ALWAYS, "run_stop", "Ask the living run to save a checkpoint and end"),
    Command("run.attach", "Open the living run", ("alt+r",), ALWAYS, "run_attach", "The dashboard of the newest run that is alive"),
    Command("editor.save", "Save", ("ctrl+s",), "recipe", "save", "Write the file", True),
    Command("editor.close", "Close tab", ("ctrl+w",), ALWAYS, "close_tab", "Close the active tab; asks when it is not saved"),
    Command("editor.next", "Next tab", ("alt+full_stop", "ctrl+pagedown"), ALWAYS, "next_tab", "The tab to the right"),
    Command("editor.previous", "Previous tab", ("alt+comma", "ctrl+pageup"), ALWAYS, "previous_tab", "The tab to the left"),
    Command("editor.split", "Split the editor", ("ctrl+backslash",), ALWAYS, "split", "Move the tab to a second pane, or join the panes"),
    Command("view.explorer", "Explorer", ("alt+1",), ALWAYS, "show_explorer", "Recipes, data, models and runs of the folder"),
    Command("view.runs", "Runs", ("alt+2",), ALWAYS, "show_runs", "The table of all runs of the folder"),
    Command("view.gpu", "GPU panel", ("alt+3",), ALWAYS, "toggle_gpu", "Show or hide the GPU figures on the right"),
    Command("view.side_bar", "Side bar", ("ctrl+b", "f9"), ALWAYS, "toggle_side_bar", "Show or hide the explorer"),
    Command("view.panel", "Panel", ("ctrl+t",), ALWAYS, "toggle_panel", "Show or hide problems, output, queue and samples"),
    Command("view.maximise", "Maximise the editor", ("f12",), ALWAYS, "maximise", "Only the editor; the same key brings everything back"),
    Command("focus.next", "Next pane", ("f6",), ALWAYS, "next_pane", "Move the keyboard to the next pane", True),
    Command("focus.previous", "Previous pane", ("shift+f6",), ALWAYS, "previous_pane", "Move the keyboard to the pane before"),
    Command("view.wider_side_bar", "Side bar wider", (), ALWAYS, "wider_side_bar", "Four columns more for the explorer"),
    Command("view.narrower_side_bar", "Side bar narrower", (), ALWAYS, "narrower_side_bar", "Four columns less for the explorer"),
    Command("view.taller_panel", "Panel taller", (), ALWAYS, "taller_panel", "Three rows more for problems and output"),
    Command("view.lower_panel", "Panel lower", (), ALWAYS, "lower_panel", "Three rows less for problems and output"),
    Command("app.refresh", "Refresh the explorer", (), ALWAYS, "refresh_explorer", "Look at the folder again"),
    Command("app.theme", "Colour theme", (), ALWAYS, "choose_theme", "Choose the colours; the highlighted theme is shown at once"),
    Command(
        "app.line", "Line to this terminal", (), ALWAYS, "choose_line", "Call it slow or fast, or have it measured: how often figures come"
    ),
    Command("app.help", "Keyboard help", ("alt+question_mark",), ALWAYS, "help", "All keys that hold here"),
    Command(
        "app.redraw",
        "Redraw the screen",
        ("ctrl+l",),
        ALWAYS,
        "redraw",
        "Paint everything again, when something else wrote on the terminal",
    ),
    Command("app.quit", "Quit", ("ctrl+q",), ALWAYS, "quit", "Leave the workbench; runs go on", True),
)
