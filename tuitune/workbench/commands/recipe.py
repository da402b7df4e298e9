"""The commands of the recipe editor; their handlers are `action_…` methods of RecipeEditor."""

from tuitune.workbench.commands.registry import Command

COMMANDS: tuple[Command, ...] = (
    Command("recipe.fix", "Quick fix", ("f4", "alt+enter"), "recipe", "fix", "Put the problem under the cursor right", True),
    Command("recipe.fix_all", "Fix all problems", (), "recipe", "fix_all", "Apply every fix that is known, all as one undo step"),
    Command("recipe.complete", "Complete", ("ctrl+@", "ctrl+space"), "recipe", "complete", "Keys and values that fit here"),
    Command("recipe.docs", "Explain", ("f2",), "recipe", "docs", "What the key under the cursor means, its type and default", True),
    Command("recipe.find", "Find", ("ctrl+f",), "recipe", "find", "Search in the text"),
    Command("recipe.find_next", "Find next", ("f3",), "recipe", "find_next", "The next place of what was searched"),
    Command("recipe.find_previous", "Find previous", ("shift+f3",), "recipe", "find_previous", "The place before"),
    Command("recipe.undo", "Undo", ("ctrl+z",), "recipe", "undo", "Take the last change back"),
    Command("recipe.redo", "Redo", ("ctrl+y",), "recipe", "redo", "Make it again"),
    Command("recipe.diff", "Compare with the last run", (), "recipe", "diff", "What changed since this recipe was last trained"),
    Command("recipe.reload", "Reload from disk", (), "recipe", "reload", "Forget the changes and read the file again"),
)
