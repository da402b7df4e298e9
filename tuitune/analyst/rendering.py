"""Rows through a chat template and the tokenizer, exactly as TRL sends them: transformers' apply_chat_template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from msgspec.structs import replace

from tuitune.template.answers import Token, Unproven, answers
from tuitune.template.document import Conversation
from tuitune.template.prefix import prefix_test
from tuitune.template.spans import UNKNOWN, Span, spans
from tuitune.text import printable

LONGEST = 200_000  # characters of a render that are looked into; a longer one is only compared as text


@dataclass(frozen=True)
class Talk:
    """One conversation of a training row. `options` go to apply_chat_template beside the turns."""

    row: int
    name: str
    turns: Sequence[Mapping[str, Any]]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Renderer:
    """`template`: None for the tokenizer's own."""

    tokenizer: Any
    template: str | None = None

    def text(self, talk: Talk, turns: Sequence[Any] | None = None, *, prompt: bool = False, template: str | None = None) -> str:
        """The render of a conversation, or of other `turns` in its place. Raises what the template raises."""
        chosen = self.template if template is None else template
        options = {"chat_template": chosen, **talk.options, "add_generation_prompt": prompt, "tokenize": False}
        return str(self.tokenizer.apply_chat_template(list(talk.turns if turns is None else turns), **options))

    def masked(self, talk: Talk, template: str) -> tuple[list[int], list[int]]:
        """(ids, the assistant's mask) as TRL gets them with assistant_only_loss."""
        options = {"chat_template": template, **talk.options, "return_dict": True, "return_assistant_tokens_mask": True}
        found = self.tokenizer.apply_chat_template(list(talk.turns), **options)
        return list(found["input_ids"]), list(found["assistant_masks"])

    def ids(self, text: str) -> list[int]:
        """Token ids of a rendered text."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def tokens(self, text: str) -> tuple[list[int], list[Token]]:
        """Ids of a rendered text, and where each stands in it. Only fast tokenizers know the places."""
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids = list(found["input_ids"])
        eos = self.tokenizer.eos_token_id
        return ids, [
            Token(start, end, id in self._special, id == eos) for id, (start, end) in zip(ids, found["offset_mapping"], strict=True)
        ]

    @cached_property
    def _special(self) -> frozenset[int]:
        added = {id for id, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        return frozenset({*self.tokenizer.all_special_ids, *added})

    @cached_property
    def specials(self) -> frozenset[str]:
        """The texts of the special tokens."""
        return frozenset(self.tokenizer.convert_ids_to_tokens(sorted(self._special)))

    def conversation(self, talk: Talk, *, tokens: bool = True) -> Conversation:
        """A conversation with its spans and prefix test; what the template raises is its `error`. tokens: test them as well as the text."""
        try:
            text = self.text(talk)
        except Exception as error:
            return Conversation(talk.name, error=why(error))

        def render(turns: list[dict[str, Any]], prompt: bool = False) -> str:
            return self.text(talk, turns, prompt=prompt)

        looked = tokens and len(text) <= LONGEST
        turns, faults = prefix_test(talk.turns, render, self.ids if looked else lambda _: [], text)
        if len(text) > LONGEST:
            unknown = [Span(0, LONGEST, UNKNOWN, UNKNOWN)]
            return Conversation(talk.name, text[:LONGEST], None, unknown, turns, faults, left_out=len(text) - LONGEST)
        found = Conversation(talk.name, text, None, spans(talk.turns, render, text), turns, faults, self.prompted(talk) == text)
        return self._with_answers(found) if looked else found

    def prompted(self, talk: Talk, turns: Sequence[Any] | None = None, template: str | None = None) -> str | None:
        """As `text`, with the generation prompt; None where the template refuses that."""
        try:
            return self.text(talk, turns, prompt=True, template=template)
        except Exception:  # templates raise what they like; None is the answer, and `conversation` tells a render that fails
            return None

    def _with_answers(self, talk: Conversation) -> Conversation:
        if not getattr(self.tokenizer, "is_fast", False):
            return replace(talk, tokens=len(self.ids(talk.text)))
        ids, tokens = self.tokens(talk.text)
        try:
            found = [(part.start, part.end) for part in answers(talk, tokens, self.specials)]
        except Unproven:
            return replace(talk, tokens=len(ids))
        return replace(talk, tokens=len(ids), answers=found)


def why(error: Exception) -> str:
    """What a template raised, in a line."""
    return printable(f"{type(error).__name__}: {error}", limit=300)
