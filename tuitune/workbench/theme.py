"""The colours: two dark themes, a light one, high contrast, and two that leave the colours to the terminal.

Every colour is one of the 256 that a terminal over ssh has (COLORTERM does not travel), so a theme looks the same with 256 colours and
with 24 bits. Besides Textual's own names the style sheet uses `shell-…`: backgrounds of the bars and the thin lines between panes.
Colour never carries a meaning alone: there is always a letter, a sign or a word beside it.
"""

from textual.theme import Theme

DEFAULT = "tuitune-dark"
DEFAULT_16 = "ansi-dark"


def _theme(name: str, *, dark: bool, muted: str, disabled: str, line: str, selection: str, **colors: str) -> Theme:
    background, surface, panel = colors["background"], colors["surface"], colors["panel"]
    return Theme(
        name=name,
        dark=dark,
        variables={
            "text-muted": muted,
            "text-disabled": disabled,
            "foreground-muted": muted,
            "border": colors["primary"],
            "border-blurred": line,
            "block-cursor-background": selection,
            "block-cursor-foreground": "#ffffff" if dark else colors["foreground"],
            "block-cursor-text-style": "bold",
            "block-cursor-blurred-background": panel,
            "block-cursor-blurred-foreground": colors["foreground"],
            "block-cursor-blurred-text-style": "none",
            "input-cursor-background": colors["foreground"],
            "input-cursor-foreground": background,
            "input-cursor-text-style": "none",
            "input-selection-background": selection,
            "scrollbar": line,
            "scrollbar-hover": line,
            "scrollbar-active": colors["primary"],
            "scrollbar-background": background,
            "scrollbar-background-hover": background,
            "scrollbar-background-active": background,
            "scrollbar-corner-color": background,
            "shell-side": surface,
            "shell-bar": panel,
            "shell-status": panel,
            "shell-status-text": colors["foreground"],
            "shell-line": line,
            "shell-chip": colors["primary"],
            "shell-chip-text": background,
        },
        **colors,  # type: ignore[arg-type]
    )


def _ansi(name: str, *, dark: bool) -> Theme:
    muted = "ansi_bright_black"
    return Theme(
        name=name,
        dark=dark,
        ansi=True,
        primary="ansi_blue" if not dark else "ansi_bright_blue",
        secondary="ansi_cyan",
        warning="ansi_yellow" if dark else "ansi_magenta",
        error="ansi_red" if not dark else "ansi_bright_red",
        success="ansi_green",
        accent="ansi_magenta" if not dark else "ansi_bright_yellow",
        foreground="ansi_default",
        background="ansi_default",
        surface="ansi_default",
        panel="ansi_default",
        boost="ansi_default",
        variables={
            "ansi-background": "ansi_black" if dark else "ansi_white",
            "ansi-foreground": "ansi_white" if dark else "ansi_black",
            "text-muted": muted,
            "text-disabled": muted,
            "foreground-muted": muted,
            "border": "ansi_blue",
            "border-blurred": muted,
            "block-cursor-background": "ansi_blue",
            "block-cursor-foreground": "ansi_bright_white",
            "block-cursor-text-style": "bold",
            "block-cursor-blurred-background": muted,
            "block-cursor-blurred-foreground": "ansi_bright_white",
            "block-cursor-blurred-text-style": "none",
            "input-cursor-background": "ansi_white" if dark else "ansi_black",
            "input-cursor-foreground": "ansi_black" if dark else "ansi_bright_white",
            "input-cursor-text-style": "none",
            "input-selection-background": "ansi_blue",
            "input-selection-foreground": "ansi_bright_white",
            "scrollbar": muted,
            "scrollbar-hover": muted,
            "scrollbar-active": "ansi_blue",
            "scrollbar-background": "ansi_default",
            "scrollbar-background-hover": "ansi_default",
            "scrollbar-background-active": "ansi_default",
            "scrollbar-corner-color": "ansi_default",
            "shell-side": "ansi_default",
            "shell-bar": "ansi_default",
            "shell-status": "ansi_blue",
            "shell-status-text": "ansi_bright_white",
            "shell-line": muted,
            "shell-chip": "ansi_green",
            "shell-chip-text": "ansi_black",
        },
    )


THEMES: tuple[Theme, ...] = (
    _theme(
        "tuitune-dark",
        dark=True,
        background="#1c1c1c",
        surface="#262626",
        panel="#303030",
        boost="#3a3a3a",
        foreground="#d0d0d0",
        primary="#5fafff",
        secondary="#87afd7",
        accent="#ffaf5f",
        success="#87d787",
        warning="#ffd75f",
        error="#ff8787",
        muted="#9e9e9e",
        disabled="#767676",
        line="#444444",
        selection="#005f87",
    ),
    _theme(
        "tuitune-night",
        dark=True,
        background="#080808",
        surface="#121212",
        panel="#1c1c1c",
        boost="#262626",
        foreground="#dadada",
        primary="#af87ff",
        secondary="#87afaf",
        accent="#5fd7d7",
        success="#87d75f",
        warning="#ffaf00",
        error="#ff5f87",
        muted="#8a8a8a",
        disabled="#6c6c6c",
        line="#303030",
        selection="#5f5faf",
    ),
    _theme(
        "tuitune-light",
        dark=False,
        background="#ffffff",
        surface="#eeeeee",
        panel="#e4e4e4",
        boost="#dadada",
        foreground="#262626",
        primary="#005faf",
        secondary="#5f5faf",
        accent="#af5f00",
        success="#008700",
        warning="#875f00",
        error="#d70000",
        muted="#626262",
        disabled="#8a8a8a",
        line="#bcbcbc",
        selection="#afd7ff",
    ),
    _theme(
        "tuitune-contrast",
        dark=True,
        background="#000000",
        surface="#000000",
        panel="#1c1c1c",
        boost="#262626",
        foreground="#ffffff",
        primary="#00ffff",
        secondary="#afffff",
        accent="#ffff00",
        success="#00ff00",
        warning="#ffff00",
        error="#ff8787",
        muted="#d0d0d0",
        disabled="#b2b2b2",
        line="#ffffff",
        selection="#0000d7",
    ),
    _ansi("ansi-dark", dark=True),
    _ansi("ansi-light", dark=False),
)
TITLES = {
    "tuitune-dark": "Dark",
    "tuitune-night": "Night (darker, violet)",
    "tuitune-light": "Light",
    "tuitune-contrast": "High contrast",
    "ansi-dark": "The terminal's own colours, dark",
    "ansi-light": "The terminal's own colours, light",
}
# What the style sheet may use beside Textual's names; stands in while a theme that does not name them is in force.
VARIABLE_DEFAULTS = {name: value for name, value in THEMES[0].variables.items() if name.startswith("shell-")}
NAMES = tuple(theme.name for theme in THEMES)
