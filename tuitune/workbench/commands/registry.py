"""The one registry of commands: key bindings, palette, footer, help page and the README's key table are made from it.

A command is data. Its handler is the name of an `action_…` method (without the prefix) of the active view, else of the app. Imports
nothing of Textual's widgets and no view, so that it can be read before the first paint.

`python -m tuitune.workbench.commands.registry` prints the README's key table.
"""

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

# Merged with Enter, Tab, Backspace, Escape and line feed by legacy terminals, or never sent by them (workbench.md B2).
FORBIDDEN_KEYS = frozenset(
    ["ctrl+j", "ctrl+m", "ctrl+h", "ctrl+i", "ctrl+left_square_bracket", "ctrl+comma", "ctrl+tab", "ctrl+shift+tab"]
    + [f"ctrl+{digit}" for digit in range(10)]
    + [f"ctrl+shift+{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
)
ALWAYS = "always"
# of views; views/catalog.py says which class shows which
KINDS = ("recipe", "tokens", "template", "alignment", "plan", "run", "runs", "compare", "chat", "job", "data", "text")
PROBLEMS = "problems"  # the panel's list: its plain keys count while the keyboard is there
_FUNCTION_KEY = re.compile(r"(shift\+)?f\d+")
MAX_FOOTER = 6

_KEY_NAMES = {
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "backslash": "\\",
    "comma": ",",
    "full_stop": ".",
    "plus": "+",
    "minus": "-",
    "equals_sign": "=",
    "slash": "/",
    "question_mark": "?",
    "space": "Space",
    "escape": "Esc",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "colon": ":",
    "grave_accent": "`",
    "left": "←",
    "right": "→",
    "up": "↑",
    "down": "↓",
}


@dataclass(frozen=True)
class Command:
    """Something the user can do.

    id: stable, dotted ("editor.save"). keys: Textual's key names, the first is the one shown. when: "always", or the kinds of view
    in which it holds, separated by blanks ("recipe data"), or PROBLEMS. handler: `action_<handler>` of the active view or the app. help:
    one sentence for the help page. footer: shown among the key hints while it holds.
    """

    id: str
    title: str
    keys: tuple[str, ...]
    when: str
    handler: str
    help: str
    footer: bool = False

    def holds(self, kind: str) -> bool:
        """Whether the command can be used while a view of this kind is active ("" = no view)."""
        return self.when == ALWAYS or kind in self.when.split()


@cache
def all_commands() -> tuple[Command, ...]:
    """Every command of the workbench: the app's, then each view's."""
    from tuitune.workbench.commands import alignment, app, chat, dataset, plan, problems, recipe, run, template, tokens

    everywhere = app.COMMANDS + problems.COMMANDS + tokens.OPEN + template.OPEN + alignment.OPEN + plan.OPEN + chat.OPEN
    views = tokens.COMMANDS + template.COMMANDS + alignment.COMMANDS + plan.COMMANDS + dataset.COMMANDS + chat.COMMANDS
    return everywhere + recipe.COMMANDS + run.COMMANDS + views


@cache
def by_id(command_id: str) -> Command:
    """The command of that id; KeyError when there is none."""
    return {command.id: command for command in all_commands()}[command_id]


def is_plain(key: str) -> bool:
    """Whether a key is one that text fields need themselves: everything but function keys and combinations with Ctrl or Alt."""
    return not (key.startswith(("ctrl+", "alt+")) or _FUNCTION_KEY.fullmatch(key))


def key_label(key: str) -> str:
    """A key as people write it: "ctrl+shift+f8" → "Ctrl+Shift+F8", "alt+full_stop" → "Alt+."."""
    if key == "ctrl+@":
        return "Ctrl+Space"  # what it is called before the terminal has sent it
    parts = [_KEY_NAMES.get(part, part) for part in key.split("+")]
    return "+".join(part if len(part) == 1 and len(parts) == 1 else part[:1].upper() + part[1:] for part in parts)


def key_of(command_id: str) -> str:
    """The first key of a command as people write it."""
    return key_label(by_id(command_id).keys[0])


def keys_label(command: Command) -> str:
    """All keys of a command for the help page, e.g. "F5, Ctrl+R"; empty when it is only in the palette."""
    return ", ".join(dict.fromkeys(key_label(key) for key in command.keys))


def footer_commands(kind: str, commands: Iterable[Command] | None = None) -> list[Command]:
    """The commands to hint at for a kind of view, at most six: up to four of the view's own, then the app's."""
    chosen = [command for command in (all_commands() if commands is None else commands) if command.footer and command.holds(kind)]
    own = [command for command in chosen if command.when != ALWAYS][: MAX_FOOTER - 2]
    return [*own, *(command for command in chosen if command.when == ALWAYS)][:MAX_FOOTER]


def clashes(commands: Sequence[Command]) -> list[str]:
    """Sentences about keys that two commands claim in the same place; an "always" command claims its key everywhere."""
    found = []
    owners: dict[tuple[str, str], str] = {}
    kinds = sorted({kind for command in commands for kind in command.when.split()} - {ALWAYS})
    for command in commands:
        for key in command.keys:
            for kind in kinds if command.when == ALWAYS else command.when.split():
                other = owners.setdefault((key, kind), command.id)
                if other != command.id:
                    found.append(f"{key} means {other} and {command.id} in {kind}")
    return found


def key_table() -> str:
    """The README's table of keys in Markdown."""
    lines = ["| Key | Does | Where |", "|---|---|---|"]
    for command in all_commands():
        if command.keys:
            keys = ", ".join(dict.fromkeys(f"`{key_label(key)}`" for key in command.keys))
            where = "everywhere" if command.when == ALWAYS else ", ".join(command.when.split())
            lines.append(f"| {keys} | {command.title} | {where} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(key_table())
