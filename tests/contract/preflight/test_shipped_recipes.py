"""Every recipe of recipes/ passes for the card that its header names.

Models are replaced by small ones of the same architecture with the same tokenizer, data by small files; everything else stays as it is.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.planted import alarms, check, turns
from tests.support.real_tokenizers import Unreachable
from tests.support.small_models import make_small_model
from tuitune.preflight.cards import CPU, GIB, Card

RECIPES = sorted((Path(__file__).parents[3] / "recipes").glob("*.yaml"))
TOKENIZERS = {"Qwen/Qwen2.5": "qwen2_5", "Qwen/Qwen3": "qwen3", "HuggingFaceTB/SmolLM2": "smollm2"}
# 60 updates of 8 × 16,384 tokens would be 8 million tokens: the test's rows make fewer steps than the recipe is meant for
FEW_ROWS = {"long-context-packed": ("TRN01", "TRN15"), "orpo": ("RCP019",)}  # and that ORPO is experimental in TRL is said
ANIMALS = ("cat", "dog", "horse", "sparrow", "beetle", "salmon", "otter", "camel")
PLACES = ("garden", "harbour", "kitchen", "forest", "station", "library", "meadow")


def question(number: int) -> str:
    """A question that no other number has."""
    return (
        f"Where did {ANIMALS[number % 8]} number {number} sleep after it had walked {number * 7 % 101} miles to the {PLACES[number % 7]}?"
    )


def answer(number: int, wrong: bool = False) -> str:
    """An answer of its own, longer than its question."""
    place, other = PLACES[(number + wrong) % 7], ANIMALS[(number * 3 + 1) % 8]
    return (
        f"It slept in the {place}, {number * 7 % 101} miles from where it had begun, beside {other} number {number * 13 % 997}. "
        f"When morning came at {number % 5 + 4}, they went on for {number * 11 % 89} more miles and rested {number % 9 + 2} times."
    )


def pair(number: int) -> dict[str, Any]:
    """A preference, as lists of turns."""
    asked, preferred = turns(question(number), answer(number))["messages"]
    return {"prompt": [asked], "chosen": [preferred], "rejected": [{**preferred, "content": answer(number, wrong=True)}]}


def card_of(header: str) -> Card:
    """The smallest card that the header's line `Card:` allows."""
    said = re.search(r"# Card: +(.*)", header)
    assert said, "a recipe names its card"
    if said[1].startswith("none needed"):
        return CPU
    memory, capability = re.search(r"(\d+) GiB", said[1]), re.search(r"capability (\d)\.(\d)", said[1])
    assert memory, said[1]
    assert capability, said[1]
    return Card("the header's card", int(memory[1]) * GIB, (int(capability[1]), int(capability[2])), named=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Hub id (its beginning) → a small model."""
    folder = tmp_path_factory.mktemp("models")
    try:
        made = {hub: make_small_model(folder / name, name, max_position_embeddings=32768) for hub, name in TOKENIZERS.items()}
    except Unreachable as error:
        pytest.skip(str(error))
    for model in made.values():
        if not (model / "chat_template.jinja").exists():
            continue
        config = json.loads((model / "tokenizer_config.json").read_text())
        config.pop("chat_template", None)  # of the package that the tokenizer comes in; the models have the one in chat_template.jinja
        (model / "tokenizer_config.json").write_text(json.dumps(config))
    return made


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def workspace(folder: Path, recipe: Path, models: dict[str, Path]) -> Path:
    """The recipe in `folder`/recipes beside data, and its model; everything is as the recipe names it."""
    text = recipe.read_text()
    name = re.search(r"name_or_path: (\S+)", text)
    assert name
    model = next(path for hub, path in models.items() if name[1].startswith(hub))
    text = text.replace(name[1], str(model))
    place = folder / "recipes" / recipe.name
    data, count = place.parent / "data", 880
    talks = [turns(question(n), answer(n) * (8 if "long" in recipe.name else 1)) for n in range(count + 60)]
    pairs = [pair(n) for n in range(count + 60)]
    plain = [{"question": question(n), "answer": answer(n)} for n in range(count + 60)]
    for names, rows in ((("train", "test"), talks), (("pairs", "pairs-test"), pairs)):
        write(data / f"{names[0]}.jsonl", rows[:count])
        write(data / f"{names[1]}.jsonl", rows[count:])
    write(folder / "data" / "gsm8k" / "train.jsonl", plain[:count])
    write(folder / "data" / "gsm8k" / "test.jsonl", plain[count:])
    labelled = [
        {"prompt": one["prompt"], "completion": one["chosen" if n % 2 else "rejected"], "label": bool(n % 2)} for n, one in enumerate(pairs)
    ]
    write(data / "labelled.jsonl", labelled)
    write(data / "questions.jsonl", plain)
    shutil.copy(recipe.parent / "grpo_rewards.py", place.parent)
    if adapter := re.search(r"adapter: (\S+)", text):
        earlier = place.parent / adapter[1]
        make_adapter(model, earlier.resolve())
    place.write_text(text)
    return place


def make_adapter(model: Path, folder: Path) -> None:
    """What an SFT run leaves."""
    import peft
    import transformers

    base = transformers.AutoModelForCausalLM.from_pretrained(model)
    peft.get_peft_model(base, peft.LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")).save_pretrained(folder)


@pytest.mark.parametrize("recipe", RECIPES, ids=[recipe.stem for recipe in RECIPES])
def test_a_shipped_recipe_passes_for_the_card_in_its_header(recipe: Path, tmp_path: Path, models: dict[str, Path]) -> None:
    place = workspace(tmp_path, recipe, models)
    report = check(place, card_of(recipe.read_text()))
    left = [alarm for alarm in alarms(report) if not alarm.startswith(FEW_ROWS.get(recipe.stem, ("-",)))]
    assert left == []
    assert {"TRN01", "TRN16"} <= set(report.ran)
    shutil.rmtree(tmp_path / "recipes")
