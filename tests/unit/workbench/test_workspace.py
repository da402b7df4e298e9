"""What the explorer finds in a folder, and what it leaves alone."""

import os
from pathlib import Path

import pytest

from tuitune.workbench import workspace
from tuitune.workbench.workspace import changed, kind_of, scan

RECIPE = "name: demo\ntask: sft\nmodel:\n  name_or_path: x\n"


def make(root: Path, *files: str, text: str = "") -> None:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def names(paths) -> list[str]:
    return [path.name for path in paths]


def look(root: Path):
    return scan(root, root / "runs")


def test_files_land_in_their_sections(tmp_path):
    make(tmp_path, "demo.yaml", text=RECIPE)
    make(tmp_path, "docker-compose.yaml", text="services:\n  web: {}\n")
    make(tmp_path, "train.jsonl", "rows.csv.gz", "part.parquet", "set.json", "package.json", "README.md")
    make(tmp_path, "model/config.json", "model/tokenizer.json", "adapter/adapter_config.json")
    found = look(tmp_path)
    assert names(found.recipes) == ["demo.yaml"]
    assert names(found.data) == ["part.parquet", "rows.csv.gz", "set.json", "train.jsonl"]
    assert names(found.models) == ["adapter", "model"]
    assert names(found.texts) == ["docker-compose.yaml", "package.json", "README.md"]


def test_a_recipe_with_broken_yaml_is_still_a_recipe(tmp_path):
    make(tmp_path, "broken.yaml", text="model: {name_or_path: [\ntraining:\n\tx")
    make(tmp_path, "new.yaml", text="")
    assert names(look(tmp_path).recipes) == ["broken.yaml", "new.yaml"]


def test_hidden_and_foreign_folders_are_not_entered(tmp_path):
    make(tmp_path, ".git/a.jsonl", ".venv/b.jsonl", "node_modules/c.jsonl", "__pycache__/d.jsonl", "runs/x/e.jsonl", "ok/f.jsonl")
    assert names(look(tmp_path).data) == ["f.jsonl"]


def test_a_loop_of_links_ends(tmp_path):
    make(tmp_path, "a/b/data.jsonl")
    (tmp_path / "a/b/back").symlink_to(tmp_path)
    (tmp_path / "a/self").symlink_to(tmp_path / "a")
    (tmp_path / "dead").symlink_to(tmp_path / "nowhere")
    assert names(look(tmp_path).data) == ["data.jsonl"]


def test_depth_has_a_bound(tmp_path):
    make(tmp_path, "/".join(["d"] * 30) + "/deep.jsonl", "top.jsonl")
    assert names(look(tmp_path).data) == ["top.jsonl"]


def test_a_section_is_listed_up_to_a_bound_that_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(workspace, "MAX_PER_SECTION", 20)
    for number in range(1_200):
        (tmp_path / f"{number:05}.jsonl").touch()
    found = look(tmp_path)
    assert names(found.data) == [f"{number:05}.jsonl" for number in range(20)]
    assert found.notes == ("data: 1,200 found, the first 20 are listed",)


def test_looking_stops_at_a_number_of_entries(tmp_path, monkeypatch):
    monkeypatch.setattr(workspace, "MAX_ENTRIES", 50)
    for number in range(200):
        (tmp_path / f"{number}.txt").touch()
    found = look(tmp_path)
    assert len(found.texts) <= 51
    assert "only the first 50 entries" in found.notes[-1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_named(tmp_path):
    (tmp_path / "secret").mkdir(mode=0)
    assert "secret cannot be read" in look(tmp_path).notes[0]


def test_a_folder_that_is_gone_is_named(tmp_path):
    assert "cannot be read" in look(tmp_path / "gone").notes[0]


def test_new_files_are_noticed_by_one_stat_a_folder(tmp_path):
    make(tmp_path, "data/a.jsonl")
    found = look(tmp_path)
    assert not changed(found)
    make(tmp_path, "data/b.jsonl")
    os.utime(tmp_path / "data", ns=(1, 1))  # within the clock's grain the mtime may not move by itself
    assert changed(found)


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("a.yaml", RECIPE, "recipe"),
        ("a.yaml", "x: 1", "text"),
        ("a.jsonl", "", "data"),
        ("a.json", "", "data"),
        ("notes.md", "", "text"),
        ("x.bin", "", "text"),
    ],
)
def test_which_view_opens_a_file(tmp_path, name, text, kind):
    make(tmp_path, name, text=text)
    assert kind_of(tmp_path / name) == kind


def test_a_run_folder_opens_as_a_run(tmp_path):
    make(tmp_path, "manifest.json")
    assert kind_of(tmp_path) == "run"


def test_what_lies_in_a_run_is_the_runs_own(tmp_path):
    run = tmp_path / "elsewhere" / "demo-1"
    (run / "journal").mkdir(parents=True)
    (run / "manifest.json").write_text("{}")
    (run / "recipe.yaml").write_text("model: {}\n")
    (run / "journal" / "hub.jsonl").write_text("{}\n")
    found = scan(tmp_path, tmp_path / "runs")
    assert (found.recipes, found.data) == ((), ())
