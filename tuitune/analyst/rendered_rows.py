"""The conversations of a recipe's rows through its chat template, for preflight: one of every shape, and a seeded sample of the rows."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from typing import Any

import transformers.utils.chat_template_utils as transformers_templates
from trl.chat_template_utils import is_chat_template_stop_token_trained

from tuitune.analyst.conversation import conversations, render_options
from tuitune.analyst.generation import mark_generation
from tuitune.analyst.prompt_borders import Border, chosen, token_borders
from tuitune.analyst.rendering import Renderer, Talk
from tuitune.analyst.template_sources import own, trained_with, training_variant
from tuitune.errors import UserError
from tuitune.preflight.template.causes import REPAIRS, causes
from tuitune.recipe.recipe import Recipe
from tuitune.template.difference import cut_short
from tuitune.template.document import Difference, Marking, Source
from tuitune.template.prefix import ASSISTANT
from tuitune.template.spans import UNKNOWN, text_sources
from tuitune.template.words import Word, in_words, shape_of, unprinted
from tuitune.trainer.build import Built

MOST_SHAPES = 2_000  # that are rendered at all
MOST_LOOKED = 200  # shapes that are looked into
BLANKS = "tuitune-blanks"
SHOWN = 10  # rows of a shape that are remembered


@dataclass
class Shape:
    """Conversations that differ in their texts only: `count` of them in `split`, of which `talk` is the first; the first `prompt` turns
    are a column of their own; `rows`: the first rows, `files`: where all of them stand."""

    split: str
    talk: Talk
    prompt: int = 0
    count: int = 0
    rows: list[int] = field(default_factory=list)
    files: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Mask:
    """`masked` of `tokens` are the assistant's by the template; `others`: the role whose text is among them, "" when none is, and
    `excerpt` of that text."""

    tokens: int
    masked: int
    others: str
    excerpt: str


@dataclass(frozen=True)
class Sampled:
    """A conversation; `prompt`: its prompt rendered alone, None where the template refuses that; `text`: all of it."""

    talk: Talk
    prompt: str | None
    text: str

    @property
    def parts(self) -> Difference | None:
        """Where the prompt stops being the beginning of the whole; None when it never does."""
        return None if self.prompt is None else cut_short(self.prompt, self.text)


@dataclass
class RenderedRows:
    """`stock`: the tokenizer's template; `source`: the one that TRL trains with; `refusal`: why TRL trains with none, None when it does."""

    recipe: Recipe
    built: Built
    tokenizer: Any
    stock: Source
    source: Source
    refusal: str | None
    renderer: Renderer

    @cached_property
    def shapes(self) -> list[Shape]:
        """One of each shape, of both splits; of very many shapes the first MOST_SHAPES."""
        found: dict[Any, Shape] = {}
        for name, split in (("train", self.built.train), ("eval", self.built.eval)):
            if split is None:
                continue
            for row, example in enumerate(split.rows):
                options = render_options(example)
                prompt = len(example["prompt"]) if isinstance(example.get("prompt"), list) else 0
                for side, turns in conversations(example):
                    key = (name, bool(options["tools"]), "date_string" in options, prompt, shape_of(turns))
                    shape = found.get(key)
                    if shape is None:
                        if len(found) == MOST_SHAPES:
                            continue
                        shape = found[key] = Shape(name, Talk(row, side, turns, options), prompt)
                    shape.count += 1
                    shape.files.add(split.places[row][0])
                    if len(shape.rows) < SHOWN and row not in shape.rows:
                        shape.rows.append(row)
        return list(found.values())

    @cached_property
    def refused(self) -> list[tuple[Shape, Exception]]:
        """Shapes that the template does not render, with what it raises."""
        tried = [(shape, self.error(shape.talk)) for shape in self.shapes]
        return [(shape, error) for shape, error in tried if error is not None]

    @cached_property
    def explained(self) -> list[tuple[Shape, Exception, list[str]]]:
        """Of the refused ones those for which a check has an explanation, with the ids of these checks."""
        found = []
        for shape, error in self.refused[:MOST_LOOKED]:
            ids = causes(shape.talk.turns, error, lambda turns, talk=shape.talk: self.error(talk, turns) is not None)  # type: ignore[misc]
            if ids:
                found.append((shape, error, ids))
        return found

    @cached_property
    def rendered(self) -> list[tuple[Shape, str]]:
        """The first MOST_LOOKED shapes that it renders, with the text of the first conversation."""
        refused = {id(shape) for shape, _ in self.refused}
        looked = [shape for shape in self.shapes if id(shape) not in refused][:MOST_LOOKED]
        return [(shape, self.renderer.text(shape.talk)) for shape in looked]

    @property
    def prints_nothing(self) -> bool:
        """Whether the render of every training row is empty."""
        texts = [text for shape, text in self.rendered if shape.split == "train"]
        return not any(texts) and not self.refused and bool(texts)

    @cached_property
    def unprinted(self) -> list[tuple[Shape, list[Word]]]:
        """Shapes of which the template leaves texts out, with these."""
        found = []
        for shape, _ in self.rendered:
            words = self.words_lost(shape.talk)
            if words:
                found.append((shape, words))
        return found

    def words_lost(self, talk: Talk, template: str | None = None) -> list[Word]:
        """The texts of a conversation that the template (another one, when it is given) does not print."""
        try:
            return unprinted(talk.turns, lambda turns: self.renderer.text(talk, turns, template=template))
        except Exception:  # it takes the real texts and not these words: then nothing is known
            return []

    def error(self, talk: Talk, turns: Sequence[Any] | None = None) -> Exception | None:
        """What the template raises for a conversation, or for other turns in its place."""
        try:
            self.renderer.text(talk, turns)
        except Exception as error:  # templates raise what they like
            return error
        return None

    @cached_property
    def sample(self) -> list[Sampled]:
        """Conversations of at most SAMPLE training rows that end with an answer and can be rendered."""
        rows = self.built.train.rows
        found = []
        for row in chosen(rows):
            for name, turns in conversations(rows[row]):
                talk = Talk(row, name, turns, render_options(rows[row]))
                if turns and turns[-1].get("role") == ASSISTANT and self.error(talk) is None:
                    found.append(self.sampled(talk))
        return found

    def sampled(self, talk: Talk, template: str | None = None) -> Sampled:
        """A conversation and its prompt, with the template in force or another one."""
        prompt = self.renderer.prompted(talk, talk.turns[: self.prompt_length(talk)], template)
        return Sampled(talk, prompt, self.renderer.text(talk, template=template))

    def prompt_length(self, talk: Talk) -> int:
        """How many turns the prompt of a conversation is: the column's, else all before the last answer."""
        prompt = self.built.train.rows[talk.row].get("prompt")
        return len(prompt) if isinstance(prompt, list) and prompt else len(talk.turns) - 1

    @cached_property
    def _control(self) -> frozenset[int]:
        return frozenset({*self.tokenizer.get_added_vocab().values(), *self.tokenizer.all_special_ids})

    def control_ids(self, text: str) -> list[int]:
        """The ids of a text that are no ordinary tokens of the vocabulary."""
        return [id for id in self.renderer.ids(text) if id in self._control]

    def ending(self, talk: Talk) -> str | None:
        """What the template prints behind the last text of a conversation's last answer; None when it does not end with one."""
        if not talk.turns or talk.turns[-1].get("role") != ASSISTANT:
            return None
        turns, words = in_words(talk.turns)
        try:
            text = self.renderer.text(talk, turns)
        except Exception:  # it takes the real texts and not these words
            return None
        last = max(
            (text.rfind(word.word) + len(word.word) for word in words if word.turn == len(turns) - 1 and word.word in text), default=None
        )
        return None if last is None else text[last:]

    def markers(self, talk: Talk) -> list[int]:
        """The special tokens that the template itself prints for a conversation."""
        try:
            return self.control_ids(self.renderer.text(talk, in_words(talk.turns)[0]))
        except Exception:  # it takes the real texts and not these words
            return []

    def next_begins(self, talk: Talk) -> list[int]:
        """The first special token behind each answer that is followed by another turn."""
        turns, words = in_words(talk.turns)
        try:
            text = self.renderer.text(talk, turns)
        except Exception:  # it takes the real texts and not these words, or not another turn
            return []
        places = {turn: [text.find(word.word) for word in words if word.turn == turn] for turn in range(len(turns))}
        found = []
        for turn, (answer, following) in enumerate(pairwise(turns)):
            if answer.get("role") == ASSISTANT and following.get("role") != ASSISTANT and places[turn] and places[turn + 1]:
                found += self.control_ids(text[max(places[turn]) : min(places[turn + 1])])[:1]
        return found

    def behind_the_end(self, ending: str) -> str:
        """What of an `ending` stands behind its first special token; "" when it has none."""
        ids, tokens = self.renderer.tokens(ending)
        end = next((token.end for id, token in zip(ids, tokens) if id in self._control), None)
        return "" if end is None else ending[end:]

    def header(self, talk: Talk) -> str:
        """What the template prints before the last answer's text, behind the prompt that it makes of the turns before."""
        turns, words = in_words(talk.turns)
        last = [word.word for word in words if word.turn == len(turns) - 1]
        prompt, text = self.renderer.prompted(talk, turns[:-1]), self.renderer.text(talk, turns)
        places = [text.index(word) for word in last if word in text]
        return text[len(prompt) : min(places)] if prompt and places and text.startswith(prompt) else ""

    def borders(self) -> list[tuple[int, Border | None]]:
        """As `string_borders`, of the sampled conversations whose prompt's text is the beginning of the whole."""
        whole = [(one.talk.row, one.prompt, one.text) for one in self.sample if one.prompt is not None and one.text.startswith(one.prompt)]
        texts = [text for _, *both in whole for text in both]
        return list(zip([row for row, *_ in whole], token_borders(self.tokenizer, texts, add_special_tokens=False)))

    @property
    def masks(self) -> bool:
        """Whether a mask of what the assistant writes decides what is trained."""
        return self.recipe.task == "sft" and bool(self.recipe.training.get("assistant_only_loss")) and self.refusal is None

    @cached_property
    def end_is_masked(self) -> bool:
        """Whether the token that ends an answer is in the mask, as TRL asks it."""
        return bool(is_chat_template_stop_token_trained(self.tokenizer, chat_template=self.source.text))

    @cached_property
    def empty_masks(self) -> list[Shape]:
        """Shapes of training rows that have an answer and an empty mask."""
        if not self.masks:
            return []
        answered = [shape for shape, _ in self.rendered if any(turn.get("role") == ASSISTANT for turn in shape.talk.turns)]
        return [shape for shape in answered if shape.split == "train" and not self.mask(shape.talk).masked]

    def mask(self, talk: Talk) -> Mask:
        """The assistant's mask of a conversation, as TRL gets it."""
        text = self.renderer.text(talk)
        ids, masked = self.renderer.masked(talk, self.source.text)
        others, excerpt = "", ""
        if getattr(self.tokenizer, "is_fast", False):
            encoded, tokens = self.renderer.tokens(text)
            sources = text_sources([dict(turn) for turn in talk.turns], lambda turns: self.renderer.text(talk, turns), text)
            theirs = [(start, end, role) for start, end, source, role in sources if role != ASSISTANT and source != UNKNOWN]
            inside = [token for token, bit in zip(tokens, masked) if bit and encoded == ids]
            for start, end, role in theirs:
                if any(start <= token.start < token.end <= end for token in inside):
                    others, excerpt = role, text[start:end][:100]
                    break
        return Mask(len(ids), sum(masked), others, excerpt)

    def until(self, talk: Talk, end: int) -> Talk:
        """The first `end` turns of a conversation."""
        return replace(talk, turns=talk.turns[:end])

    def mended(self, talk: Talk, id: str) -> bool:
        """Whether the repair that belongs to a check makes a refused conversation one that is rendered."""
        return self.error(talk, REPAIRS[id](talk.turns)) is None

    def without_tools(self, talk: Talk) -> str:
        """The render without the definitions of tools."""
        return self.renderer.text(replace(talk, options={**talk.options, "tools": None}))

    def strips(self, talk: Talk) -> bool:
        """Whether the template takes blanks off the last answer."""
        if not talk.turns or talk.turns[-1].get("role") != ASSISTANT or not isinstance(talk.turns[-1].get("content"), str):
            return False
        turns = [*talk.turns[:-1], {**talk.turns[-1], "content": f"\n   {BLANKS}   \n"}]
        try:
            text = self.renderer.text(talk, turns)
        except Exception:  # it looks into its texts
            return False
        return BLANKS in text and f"   {BLANKS}   " not in text

    def answers(self) -> Iterator[tuple[int, str]]:
        """(row, content) of every answer of the training rows that is a text."""
        for row, example in enumerate(self.built.train.rows):
            for _, turns in conversations(example):
                yield from (
                    (row, turn["content"]) for turn in turns if turn.get("role") == ASSISTANT and isinstance(turn.get("content"), str)
                )

    def variant(self) -> Source | None:
        """TRL's own training variant of the tokenizer's template; None when it has none."""
        try:
            return training_variant(self.tokenizer, self.stock)
        except UserError:
            return None

    def marked(self, template: str) -> Marking:
        """`template` with {% generation %} in it, proven on the sample and on one conversation of every shape."""
        shapes = [shape.talk for shape, _ in self.rendered if shape.split == "train"]
        return mark_generation(Renderer(self.tokenizer), template, [*shapes, *(sampled.talk for sampled in self.sample)])

    def on(self, day: datetime, talk: Talk, **options: Any) -> str:
        """The render that a conversation has on that day, with `options` for the template laid over the row's."""
        with _pretended(day):
            return self.renderer.text(replace(talk, options={**talk.options, **options}))


def rendered_rows(recipe: Recipe, built: Built, tokenizer: Any) -> RenderedRows:
    """UserError when the tokenizer has no template."""
    first = next((render_options(row)["tools"] for row in built.train.rows), None)
    stock = own(recipe, tokenizer, first)
    source, swapped, refusal = trained_with(recipe, tokenizer, stock)
    return RenderedRows(recipe, built, tokenizer, stock, source, refusal, Renderer(tokenizer, swapped))


@contextmanager
def _pretended(day: datetime) -> Iterator[None]:
    """strftime_now of templates says that it is `day` (tests/contract/preflight/test_facts_template.py)."""

    class Pretended(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Pretended":
            return cls(day.year, day.month, day.day)

    kept = transformers_templates.datetime
    transformers_templates.datetime = Pretended  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        transformers_templates.datetime = kept  # type: ignore[misc]


def missing_template(loaded: Any, recipe: Recipe, built: Built) -> str:
    """Which check tells that the rows have no template to be rendered with: "TPL01" (none), "TPL02" (only named ones), or ""."""
    if "conversational" not in built.train.format or recipe.tokenizer.get("chat_template"):
        return ""
    templates = loaded.chat_template
    if isinstance(templates, Mapping) and templates:
        named = "default" in templates or ("tool_use" in templates and all(render_options(row)["tools"] for row in built.train.rows))
        return "" if named else "TPL02"
    return "" if templates else "TPL01"
