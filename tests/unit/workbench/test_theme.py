"""Themes are made of the 256 colours every terminal over ssh has, and can be read."""

import itertools
import re

import pytest

from tuitune.workbench.theme import NAMES, THEMES, TITLES, VARIABLE_DEFAULTS

LEVELS = (0x00, 0x5F, 0x87, 0xAF, 0xD7, 0xFF)
XTERM = {f"#{r:02x}{g:02x}{b:02x}" for r, g, b in itertools.product(LEVELS, repeat=3)} | {"#" + f"{8 + 10 * n:02x}" * 3 for n in range(24)}
OWN = [theme for theme in THEMES if not theme.ansi]


def luminance(color: str) -> float:
    parts = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", OWN, ids=lambda theme: theme.name)
def test_every_colour_is_one_of_the_256(theme):
    values = [value for value in (*vars(theme).values(), *theme.variables.values()) if isinstance(value, str)]
    colors = {color.lower() for value in values for color in re.findall(r"#[0-9a-fA-F]{6}", value)}
    assert colors
    assert colors <= XTERM


@pytest.mark.parametrize("theme", OWN, ids=lambda theme: theme.name)
def test_text_can_be_read_on_every_ground(theme):
    muted = theme.variables["text-muted"]
    least = 7.0 if theme.name == "tuitune-contrast" else 4.5
    for ground in (theme.background, theme.surface, theme.panel):
        assert contrast(theme.foreground, ground) >= 7.0
        assert contrast(muted, ground) >= least
    for color in (theme.primary, theme.secondary, theme.accent, theme.success, theme.warning, theme.error):
        assert contrast(color, theme.background) >= least
    assert contrast(theme.variables["block-cursor-foreground"], theme.variables["block-cursor-background"]) >= 4.5
    assert contrast(theme.variables["shell-chip-text"], theme.variables["shell-chip"]) >= 4.5


@pytest.mark.parametrize("theme", [theme for theme in THEMES if theme.ansi], ids=lambda theme: theme.name)
def test_ansi_themes_name_only_the_terminals_own_colours(theme):
    values = [value for value in (*vars(theme).values(), *theme.variables.values()) if isinstance(value, str) and value != theme.name]
    assert {value.partition("_")[0] for value in values} <= {"ansi", "none", "bold", "reverse"}


def test_there_are_two_dark_a_light_high_contrast_and_the_terminals_own():
    assert NAMES == ("tuitune-dark", "tuitune-night", "tuitune-light", "tuitune-contrast", "ansi-dark", "ansi-light")
    assert set(TITLES) == set(NAMES)
    assert all(set(VARIABLE_DEFAULTS) <= set(theme.variables) for theme in THEMES)
