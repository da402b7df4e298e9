"""The commands of the chat view, and those that open it; handlers are `action_…` methods of the view or of the app."""

from tuitune.workbench.commands.registry import ALWAYS, Command

COMMANDS: tuple[Command, ...] = (
    Command("chat.interrupt", "Interrupt", ("escape",), "chat", "interrupt", "End the answer that is being given", True),
    Command("chat.again", "Answer again", ("f5", "ctrl+r"), "chat", "answer_again", "The last question once more, with another seed", True),
    Command("chat.keep", "Keep as a row", ("ctrl+s",), "chat", "keep_turn", "Append the conversation to a file of training rows", True),
    Command(
        "chat.params",
        "Sampling",
        ("f2",),
        "chat",
        "set_params",
        "Temperature, top_p, top_k, length, repetition, seed",
        True,
    ),
    Command(
        "chat.probabilities",
        "Token probabilities",
        ("f3",),
        "chat",
        "show_probabilities",
        "How probable each token of the last answer was and what else it could have been, and back",
    ),
    Command("chat.system", "System prompt", ("f4",), "chat", "set_system", "Another system prompt, and a new conversation"),
    Command("chat.reset", "New conversation", ("ctrl+n",), "chat", "new_conversation", "Forget the turns; the models stay in memory"),
    Command("chat.pane", "Scroll the answers", ("tab",), "chat", "next_column", "The keyboard to the next column, and back"),
)
OPEN: tuple[Command, ...] = (
    Command(
        "chat.open",
        "Chat with a model",
        (),
        ALWAYS,
        "chat_open",
        "Talk with any model, or with two side by side",
    ),
    Command(
        "chat.run",
        "Chat with this run",
        ("h",),
        "run runs",
        "chat_run",
        "Talk with this run's result or newest checkpoint",
    ),
)
