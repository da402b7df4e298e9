"""Settings survive, and a broken file never stops anybody."""

import json
import os

import pytest

from tuitune.workbench.settings import Settings, load_settings, save_settings, settings_file


def test_what_is_saved_is_loaded(tmp_path):
    path = tmp_path / "deep/settings.json"
    chosen = Settings(theme="tuitune-light", panel=True, side_bar_width=30, gpu_panel=False, line="slow")
    assert save_settings(chosen, path) is None
    assert load_settings(path) == (chosen, None)


def test_no_file_means_defaults(tmp_path):
    assert load_settings(tmp_path / "none.json") == (Settings(), None)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "\x00\xff", "[" * 100_000], ids=["empty", "torn", "list", "null", "binary", "deep"]
)
def test_a_broken_file_means_defaults_and_a_sentence(tmp_path, text):
    path = tmp_path / "settings.json"
    path.write_text(text, encoding="latin-1")
    settings, told = load_settings(path)
    assert settings == Settings()
    assert str(path) in told


def test_wrong_values_are_ignored_one_by_one(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"theme": 3, "panel": "yes", "side_bar_width": 33, "panel_height": True, "line": "long", "unknown": 1}))
    settings, told = load_settings(path)
    assert settings == Settings(side_bar_width=33)
    assert told.endswith("ignored line, panel, panel_height, theme, unknown")


@pytest.mark.parametrize(("given", "kept"), [(1, 16), (10_000, 60), (-5, 16)])
def test_sizes_are_brought_into_bounds(tmp_path, given, kept):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"side_bar_width": given}))
    assert load_settings(path)[0].side_bar_width == kept


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    assert "settings are not kept" in save_settings(Settings(), tmp_path / "file" / "settings.json")


def test_the_place_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.setitem(os.environ, "XDG_CONFIG_HOME", str(tmp_path))
    assert settings_file() == tmp_path / "tuitune/settings.json"
