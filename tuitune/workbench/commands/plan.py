"""The commands of the plan view, and the one that opens it; handlers are `action_…` methods of the view or the recipe editor."""

from tuitune.workbench.commands.registry import Command

COMMANDS: tuple[Command, ...] = (
    Command("plan.more", "More", ("right",), "plan", "more", "The slider's next value, which takes more memory", True),
    Command("plan.less", "Less", ("left",), "plan", "less", "The slider's value before, which takes less memory", True),
    Command("plan.least", "Least", ("home",), "plan", "least", "The slider's first value"),
    Command("plan.most", "Most", ("end",), "plan", "most", "The slider's last value"),
    Command("plan.fits", "The most that fits", ("m",), "plan", "most_that_fits", "The slider's largest value with 5 % of the card free"),
    Command("plan.take", "Take", ("enter",), "plan", "take", "Write the advice with those before it, or plan for the card"),
    Command("plan.write", "Write into the recipe", ("w",), "plan", "write", "What the sliders say, as one change that can be undone", True),
    Command("plan.back", "Back to the recipe", ("r", "escape"), "plan", "back", "Sliders as the recipe has them; it is read again", True),
    Command("plan.card", "Next card", ("g",), "plan", "next_card", "Plan for the next of the cards"),
    Command("plan.card_before", "Card before", ("G",), "plan", "previous_card", "Plan for the card before"),
)
OPEN: tuple[Command, ...] = (
    Command("plan.open", "Plan the memory", ("alt+m",), "recipe", "show_plan", "GPU memory by component, sliders, advice, cards"),
)
