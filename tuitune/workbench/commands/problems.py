"""The commands of preflight and of the panel's list of problems; their handlers are `action_…` methods of the app."""

from tuitune.workbench.commands.registry import ALWAYS, PROBLEMS, Command

RECIPE = "recipe tokens template alignment plan"  # the views of a recipe
COMMANDS: tuple[Command, ...] = (
    Command("check.run", "Check recipe", ("alt+p",), RECIPE, "check", "Preflight: recipe, model, data and this box; again: ends it"),
    Command("check.undo", "Undo last fix", (), RECIPE, "undo_fix", "Write the recipe as it was before the last fix of a finding"),
    Command("run.force", "Run in spite of errors", (), "recipe", "run_force", "Train though preflight finds errors; the run keeps a note"),
    Command("problems.next", "Next problem", ("f8",), ALWAYS, "next_problem", "Go to the next problem or finding of the recipe"),
    Command("problems.previous", "Previous problem", ("shift+f8",), ALWAYS, "previous_problem", "Go to the one before"),
    Command("problems.fix", "Fix", ("f",), PROBLEMS, "fix_problem", "Put the problem under the cursor right, after a look at what changes"),
    Command("problems.explain", "Explain", ("e",), PROBLEMS, "explain_problem", "The whole message, its evidence, and why it matters"),
)
