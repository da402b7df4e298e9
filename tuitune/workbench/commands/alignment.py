"""The commands of the alignment view, and the one that opens it; handlers are `action_…` methods of the view or the recipe editor."""

from tuitune.workbench.commands.registry import Command

COMMANDS: tuple[Command, ...] = (
    Command("alignment.page", "Next page", ("tab",), "alignment", "next_page", "Tokens, ends, coverage: the next of the three", True),
    Command("alignment.tokens", "Tokens", ("t",), "alignment", "tokens", "Special tokens against the rows of the embedding"),
    Command("alignment.ends", "Ends", ("e",), "alignment", "ends", "EOS, pad and BOS as tokenizer, config and generation name them"),
    Command("alignment.coverage", "Coverage", ("c",), "alignment", "coverage", "What is trained, frozen and unreachable, block by block"),
    Command("alignment.fault", "Next fault", ("n",), "alignment", "next_fault", "The next line with something wrong", True),
    Command("alignment.again", "Look again", ("r",), "alignment", "look_again", "The recipe, the data or the model have changed"),
)
OPEN: tuple[Command, ...] = (
    Command("alignment.open", "See the alignment", ("alt+a",), "recipe", "show_alignment", "Tokens, embedding rows, ends, LoRA coverage"),
)
