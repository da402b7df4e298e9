"""TOK01 to TOK18: each fault that is planted is found, its clean twin is left alone, and a fix makes the finding go."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.model_faults import adds_beginning, all_of, configs, in_json, rows, template, tokenizer_config, without_template
from tests.support.planted import Place, alarms, check, finding, ids, plant, turns
from tests.support.small_models import make_small_model
from tuitune.preflight.finding import Finding
from tuitune.preflight.repair import apply_fixes

TEXT = {"text": "text"}
TEXTS = [{"text": f"the cat sat on mat {number} and ran {number * 7}"} for number in range(24)]
VOCABULARY = 322  # ids of the tiny model, which has 448 rows
BARE = "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
BARE += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
WITH_BOS = "{{ bos_token }}" + BARE

Planted = tuple[str, str, dict[str, Any]]
FAULTS: dict[str, Planted] = {
    "the embedding ends before an id of the data": ("TOK01", "error", {"change": rows(290)}),
    "words beyond the embedding that this data does not use": ("TOK01", "warning", {"change": rows(VOCABULARY - 4)}),
    "padding is declared and gets an id without a row": (
        "TOK02",
        "error",
        {"change": all_of(rows(VOCABULARY), tokenizer_config(pad_token="[PAD]"))},
    ),
    "padding is declared and takes a spare row": ("TOK02", "info", {"change": tokenizer_config(pad_token="[PAD]")}),
    "a marker is declared, is in the data and has no row": (
        "TOK02",
        "error",
        {
            "change": all_of(rows(VOCABULARY), tokenizer_config(additional_special_tokens=["<|tool|>"])),
            "rows": [turns(f"call <|tool|> {number}", f"yes, number {number}") for number in range(24)],
        },
    ),
    "no padding token": ("TOK03", "info", {"change": tokenizer_config(pad_token=None)}),
    "padding is the end token": ("TOK04", "info", {"change": tokenizer_config(pad_token="<|im_end|>")}),
    "padding is the beginning token": ("TOK05", "warning", {"change": tokenizer_config(pad_token="<|im_start|>")}),
    "padding is in the data": (
        "TOK05",
        "warning",
        {"rows": [turns(f"what is {number}?", f"it is <|pad|> {number}") for number in range(24)]},
    ),
    "text without an end token": (
        "TOK06",
        "error",
        {"change": tokenizer_config(eos_token=None), "rows": TEXTS, "columns": TEXT},
    ),
    "generation does not stop where a turn ends": (
        "TOK07",
        "warning",
        {"change": all_of(tokenizer_config(eos_token="<|endoftext|>"), configs(eos_token_id=0))},
    ),
    "text ends with a token that the model does not end with": (
        "TOK08",
        "warning",
        {"change": all_of(without_template, tokenizer_config(eos_token="<|endoftext|>")), "rows": TEXTS, "columns": TEXT},
    ),
    "two beginning tokens": (
        "TOK09",
        "warning",
        {
            "change": all_of(adds_beginning, without_template),
            "rows": [{"text": "<|endoftext|>" + row["text"]} for row in TEXTS],
            "columns": TEXT,
        },
    ),
    "a template without the beginning token": ("TOK10", "warning", {"change": all_of(adds_beginning, template(BARE))}),
    "a template of the recipe without the beginning token that the model's own prints": (
        "TOK10",
        "warning",
        {
            "change": all_of(template(WITH_BOS), tokenizer_config(bos_token="<|endoftext|>"), configs(bos_token_id=0)),
            "tokenizer": {"chat_template": "./model/bare.jinja"},
        },
    ),
    "text without the beginning token that the tokenizer asks for": (
        "TOK10",
        "warning",
        {"change": tokenizer_config(add_bos_token=True), "rows": TEXTS, "columns": TEXT},
    ),
    "a class that does not know the blanks of tokenizer.json": (
        "TOK11",
        "error",
        {"change": tokenizer_config(tokenizer_class="GemmaTokenizer", unk_token="<|endoftext|>")},
    ),
    "a vocabulary larger than the embedding": ("TOK12", "error", {"change": rows(300)}),
    "an end token that is a word here": ("TOK12", "error", {"change": configs(eos_token_id=300)}),
    "an end token that is no token here": ("TOK12", "error", {"change": configs(eos_token_id=440)}),
    "spare rows": ("TOK13", "info", {}),
    "rows that are no multiple of 64": ("TOK13", "info", {"change": rows(VOCABULARY)}),
    "an id has two texts": (
        "TOK14",
        "warning",
        {"change": tokenizer_config(added_tokens_decoder={"3": {"content": "<|other|>", "special": True}})},
    ),
    "padding on the left": ("TOK15", "info", {"change": tokenizer_config(padding_side="left")}),
    "rows longer than the model takes": (
        "TOK16",
        "warning",
        {"change": all_of(tokenizer_config(model_max_length=16), in_json("config.json", max_position_embeddings=16))},
    ),
    "a limit that is only written": ("TOK16", "info", {"change": tokenizer_config(model_max_length=16)}),
    "a template that joins a token that is not there": (
        "TOK18",
        "error",
        {"change": all_of(tokenizer_config(bos_token=None), template("{{ bos_token + '' }}" + BARE))},
    ),
    "a template that prints a token that is not there": (
        "TOK18",
        "warning",
        {"change": all_of(tokenizer_config(bos_token=None), template("{{ bos_token }}" + BARE))},
    ),
}
CLEAN: dict[str, dict[str, Any]] = {
    "padding is the end token": {"change": tokenizer_config(pad_token="<|im_end|>")},
    "padding on the left": {"change": tokenizer_config(padding_side="left")},
    "as many rows as ids": {"change": rows(VOCABULARY)},
    "the end of a turn is named by generation_config alone": {
        "change": all_of(tokenizer_config(eos_token="<|endoftext|>"), in_json("generation_config.json", eos_token_id=[0, 2]))
    },
    "end tokens that only config.json lists": {
        "change": all_of(
            tokenizer_config(eos_token="<|endoftext|>"), in_json("config.json", eos_token_id=[0, 2]), lambda model: _without_ends(model)
        )
    },
    "ids of the config that are only its class's": {"change": configs(bos_token_id=1, eos_token_id=2)},
    "the beginning token is the template's": {"change": all_of(adds_beginning, template(WITH_BOS))},
    "text to which the tokenizer adds the beginning": {"change": all_of(adds_beginning, without_template), "rows": TEXTS, "columns": TEXT},
    "a template that asks whether a token is there": {
        "change": all_of(tokenizer_config(bos_token=None), template("{% if bos_token %}{{ bos_token }}{% endif %}" + BARE))
    },
    "a template without markers of generation": {"change": template(BARE)},
    "the class that takes tokenizer.json as it stands": {"change": tokenizer_config(tokenizer_class="TokenizersBackend")},
    "the same texts in both files": {"change": tokenizer_config(added_tokens_decoder={"3": {"content": "<|pad|>", "special": True}})},
    "text without a template": {"change": without_template, "rows": TEXTS, "columns": TEXT},
}


def _without_ends(model: Path) -> None:
    (model / "generation_config.json").unlink()


def planted(folder: Path, model: Path, **workspace: Any) -> Place:
    """plant() with the tiny model; a template file of the recipe lies in the model's folder."""
    place = plant(folder, model=model, **workspace)
    (place.model / "bare.jinja").write_text(BARE)
    return place


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str, tmp_path: Path, tiny_model: Path) -> None:
    id, severity, workspace = FAULTS[name]
    found = [found for found in check(planted(tmp_path, tiny_model, **workspace).recipe).findings if found.id == id]
    assert [f.severity for f in found] == [severity], [(f.id, f.message) for f in found]
    assert found[0].evidence
    assert found[0].where.file


@pytest.mark.parametrize("name", CLEAN)
def test_what_only_looks_like_a_fault_raises_no_alarm(name: str, tmp_path: Path, tiny_model: Path) -> None:
    assert alarms(check(planted(tmp_path, tiny_model, **CLEAN[name]).recipe)) == []


FIXED = {
    "padding is declared and gets an id without a row": True,
    "no padding token": True,
    "padding is the end token": True,
    "padding is the beginning token": False,
    "generation does not stop where a turn ends": True,
    "text ends with a token that the model does not end with": True,
    "two beginning tokens": True,
}


@pytest.mark.parametrize("name", FIXED)
def test_a_fix_makes_its_finding_go_and_no_other_appear(name: str, tmp_path: Path, tiny_model: Path) -> None:
    id, _, workspace = FAULTS[name]
    place = planted(tmp_path, tiny_model, **workspace)
    report = check(place.recipe)
    fix = finding(report, id).fix
    assert fix is not None
    assert fix.automatic == FIXED[name]
    apply_fixes(place.recipe, report.text, [fix])
    again = check(place.recipe)
    assert id not in ids(again)
    assert alarms(again) == []


def test_the_padding_that_is_chosen_has_no_other_use(tmp_path: Path, tiny_model: Path) -> None:
    """<|pad|> is in the data, <|endoftext|> is free; the end token is never taken."""
    said = [turns(f"what is {number}?", f"it is <|pad|> {number}") for number in range(24)]
    report = check(plant(tmp_path, model=tiny_model, rows=said, change=tokenizer_config(pad_token=None)).recipe)
    fix = finding(report, "TOK03").fix
    assert fix is not None
    assert fix.changes[0].value == "<|endoftext|>"


@pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="sentencepiece is installed: nothing is lacking")
def test_a_tokenizer_that_needs_another_library_says_which(tmp_path: Path, tiny_model: Path) -> None:
    def sentencepiece_alone(model: Path) -> None:
        (model / "tokenizer.json").unlink()
        (model / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02")

    found = finding(check(plant(tmp_path, model=tiny_model, change=sentencepiece_alone).recipe), "TOK17")
    assert found.severity == "error"
    assert "pip install sentencepiece" in found.message


def test_tekken_is_a_fault_alone_or_once_mistral_common_is_there(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def add_tekken(model: Path) -> None:
        (model / "tekken.json").write_text("{}")

    place = plant(tmp_path, model=tiny_model, change=add_tekken)
    assert "TOK17" not in ids(check(place.recipe)), "tokenizer.json is taken"
    monkeypatch.setattr("tuitune.preflight.tokenizer.backend.find_spec", lambda name: object())
    assert "uninstall mistral-common" in _headers(place)[0].message
    (place.model / "tokenizer.json").unlink()
    monkeypatch.setattr("tuitune.preflight.tokenizer.backend.find_spec", lambda name: None)
    assert "tekken.json is its only file" in _headers(place)[0].message


def _headers(place: Place) -> list[Finding]:
    """TOK17 of a workspace whose tokenizer need not load."""
    from tuitune.preflight.registry import Stage, find_check
    from tuitune.preflight.run import run_checks

    return run_checks([find_check("TOK17")], _context(place), {Stage.HEADERS}).findings


def _context(place: Place) -> Any:
    from tests.support.planted import CARD
    from tuitune.preflight.context import Context
    from tuitune.recipe.document import read_document
    from tuitune.recipe.recipe import load_recipe

    return Context(load_recipe(place.recipe), read_document(place.recipe), CARD)


def test_an_added_token_that_is_written_twice_is_found(tmp_path: Path, tiny_model: Path) -> None:
    def twice(model: Path) -> None:
        document = json.loads((model / "tokenizer.json").read_text())
        document["added_tokens"].append({**document["added_tokens"][3], "id": 5})
        (model / "tokenizer.json").write_text(json.dumps(document))

    found = [f for f in check(plant(tmp_path, model=tiny_model, change=twice).recipe).findings if f.id == "TOK14"]
    assert found
    assert "<|pad|>" in found[0].message


@pytest.fixture(scope="module")
def llama3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Llama-3's tokenizer on a small model, without generation_config's <|eot_id|>: as its first revision was published."""
    folder = make_small_model(tmp_path_factory.mktemp("small") / "llama3", "llama3")
    in_json("generation_config.json", eos_token_id=128001)(folder)
    return folder


def test_llama_3_as_first_published_talks_on_after_its_answer(tmp_path: Path, llama3: Path) -> None:
    """Its template prints a generation prompt after every conversation, so the last token of a row is not the end of the turn. Loaded as
    GPT2Tokenizer it cuts numbers otherwise than tokenizer.json."""
    report = check(plant(tmp_path, model=llama3, change=tokenizer_config(tokenizer_class="GPT2Tokenizer")).recipe)
    assert finding(report, "TOK07").evidence["end_of_turn"] == "<|eot_id|>"
    assert finding(report, "TOK11").severity == "warning"
    assert finding(report, "TOK03").fix is not None


@pytest.mark.parametrize("name", ["smollm2", "llama2"])
def test_real_tokenizers_on_sound_models_raise_no_alarm(name: str, tmp_path: Path) -> None:
    model = make_small_model(tmp_path / "small", name)
    report = check(plant(tmp_path, model=model).recipe)
    assert [alarm for alarm in alarms(report) if alarm.startswith(("TOK", "EMB", "PRE"))] == []


def test_rows_of_another_model_are_told_from_spare_ones(tmp_path: Path) -> None:
    """SmolLM2's tokenizer on a model of Llama-2's size: a third of the ids has no row."""
    model = make_small_model(tmp_path / "small", "smollm2", rows=32000)
    assert finding(check(plant(tmp_path, model=model).recipe), "TOK12").evidence["beyond"] == 49152 - 32000


def test_a_marker_beyond_the_rows_that_nothing_uses_is_information(tmp_path: Path, tiny_model: Path) -> None:
    """As <image_soft_token> of Gemma-3-1B: one id more than rows."""

    def one_more(model: Path) -> None:
        document = json.loads((model / "tokenizer.json").read_text())
        document["added_tokens"].append({**document["added_tokens"][3], "id": VOCABULARY, "content": "<image_soft_token>"})
        (model / "tokenizer.json").write_text(json.dumps(document))

    report = check(plant(tmp_path, model=tiny_model, change=all_of(one_more, rows(VOCABULARY))).recipe)
    assert alarms(report) == []
    assert finding(report, "TOK13").evidence["beyond"] == [VOCABULARY]
