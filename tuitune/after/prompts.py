"""Prompts to compare two models on: the beginnings of the run's own rows, as a user would ask them. Imports no torch."""

import json
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

from tuitune.dataset.columns import convert, mapping_for
from tuitune.dataset.load import rows_of
from tuitune.errors import UserError
from tuitune.recipe.recipe import Recipe

LONGEST = 512  # tokens of a prompt; the end of a longer one is asked
BUILTIN = Path(__file__).parents[1] / "trainer" / "probes" / "builtin.jsonl"
Prompt = str | list[dict[str, Any]]


def prompts_of(recipe: Recipe | None, count: int) -> tuple[list[Prompt], str]:
    """`count` different prompts of the run's held-out data, else of its training data; of tuitune's own probe texts when there is no
    recipe or its data is gone. And where they are from, in words."""
    for split in ("eval", "train") if recipe is not None else ():
        assert recipe is not None
        try:
            found = _distinct(chain.from_iterable(_of_source(source, split) for source in recipe.dataset.get(split) or []), count)
        except UserError:
            continue  # the data is gone since; the check does not depend on which text it is
        if found:
            return found, f"dataset.{split} of the run"
    texts = [json.loads(line)["text"] for line in BUILTIN.read_text(encoding="utf-8").splitlines()]
    return [text[: len(text) // 2] for text in texts[:: max(1, len(texts) // count)][:count]], "tuitune's own probe texts"


def token_ids(tokenizer: Any, prompt: Prompt) -> list[int]:
    """The prompt as the model is asked it: conversations through its template up to where its answer begins, text as it is."""
    if isinstance(prompt, list) and tokenizer.chat_template:
        made: list[int] = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=True)["input_ids"]
        return made[-LONGEST:]
    text = prompt if isinstance(prompt, str) else "\n".join(str(turn.get("content")) for turn in prompt)
    ids: list[int] = tokenizer(text)["input_ids"]
    return (ids[:-1] if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id else ids)[-LONGEST:]


def question_of(row: Mapping[str, Any]) -> Prompt:
    """What is asked in a row of TRL's shape; of plain text its first half."""
    if isinstance(row.get("messages"), list):
        turns = row["messages"]
        last = max((at for at, turn in enumerate(turns) if turn.get("role") == "assistant"), default=len(turns))
        return list(turns[:last])
    if row.get("prompt"):
        asked: Prompt = row["prompt"]
        return asked
    text = row.get("text") or row.get("chosen") or ""
    return list(text[:-1]) if isinstance(text, list) else str(text)[: len(str(text)) // 2]


def _of_source(source: Mapping[str, Any], split: str) -> Iterator[Prompt]:
    mapping: dict[str, str] | None = None
    for row in islice(rows_of(source, split), source.get("max_rows")):
        mapping = mapping or mapping_for(row, source.get("columns"))
        yield question_of(convert(row, mapping))


def _distinct(prompts: Iterator[Prompt], count: int) -> list[Prompt]:
    found: dict[str, Prompt] = {}
    for prompt in prompts:
        if prompt:
            found.setdefault(json.dumps(prompt, sort_keys=True, default=str), prompt)
        if len(found) == count:
            break
    return list(found.values())
