"""{% generation %} for a template, proven on the user's rows: same render, same ids, and the mask is what the assistant writes."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from time import monotonic

import jinja2
from trl.chat_template_utils import has_generation_markers

from tuitune.analyst.rendering import Renderer, Talk, why
from tuitune.template.answers import Answer, Unproven, answers
from tuitune.template.difference import unified
from tuitune.template.document import Marking
from tuitune.template.marking import Refused, Sample, candidates
from tuitune.text import printable

LEARNED = 64  # conversations from which it is learned which piece prints what
PROOF_S = 60.0  # of more conversations than can be proven in this time some are left out, and the number says so
LESSONS = 4  # how often conversations on which a proof failed are added to them


@dataclass(frozen=True)
class _Expected:
    """A conversation's render, ids, which of them the assistant writes (1), and its answers."""

    text: str
    ids: list[int]
    mask: list[int]
    answers: list[Answer]


@dataclass
class _Proof:
    proven: int = 0
    masked: int = 0
    turns: int = 0
    without_end: int = 0
    failed: Talk | None = None
    reason: str = ""


def mark_generation(renderer: Renderer, template: str, talks: Sequence[Talk]) -> Marking:
    """Mark the tokenizer's template. A refusal is an answer too, with the reason and the place."""
    if not getattr(renderer.tokenizer, "is_fast", False):
        return Marking(refused="only a fast tokenizer says which token stands where; this one cannot make an assistant mask")
    step = max(1, len(talks) // LEARNED)
    lesson = list(talks[::step])
    try:
        if has_generation_markers(template):
            return Marking(refused=f"the template has {{% generation %}} already: {_own_mask(_prove(renderer, template, talks))}")
        for _ in range(LESSONS):
            proof = _Proof(reason="there is no conversation to prove it on")
            samples = [Sample(talk, expected.text, expected.answers) for talk in lesson for expected in [_expected(renderer, talk)]]
            for text, unreached in candidates(template, samples, lambda other, talk: renderer.text(talk, template=other)):
                proof = _prove(renderer, text, talks)
                if proof.failed is None and proof.proven:
                    patch = unified(template, text, "the tokenizer's template", "with generation markers")
                    return Marking(text, patch, None, len(talks), proof.proven, proof.masked, proof.turns, proof.without_end, unreached)
            if proof.failed is None or proof.failed in lesson:
                break
            lesson.append(proof.failed)
        return Marking(refused=proof.reason)
    except (Refused, Unproven) as error:
        return Marking(refused=str(error))
    except jinja2.TemplateError as error:
        return Marking(refused=why(error))


def _own_mask(proof: _Proof) -> str:
    """What the proof says of markers that were there before."""
    if proof.failed is None and proof.proven:
        return f"its mask is what the assistant writes, proven on {proof.proven:,} conversations"
    return proof.reason


def _expected(renderer: Renderer, talk: Talk) -> _Expected:
    found = renderer.conversation(talk, tokens=False)
    if found.left_out:
        raise Unproven(f"row {talk.row}: {found.left_out + len(found.text):,} characters are too many to prove anything on")
    ids, tokens = renderer.tokens(found.text)
    try:
        parts = answers(found, tokens, renderer.specials)
    except Unproven as error:
        raise Unproven(f"row {talk.row}: {error}") from error
    mask, starts = [0] * len(ids), [token.start for token in tokens]
    for part in parts:
        for at in range(bisect_left(starts, part.end) - 1, -1, -1):
            if tokens[at].end <= part.start:
                break
            mask[at] = 1
    return _Expected(found.text, ids, mask, parts)


def _prove(renderer: Renderer, marked: str, talks: Sequence[Talk]) -> _Proof:
    proof = _Proof()
    deadline = monotonic() + PROOF_S
    for talk in Random(0).sample(talks, len(talks)):  # where the time is over, what was proven is a sample of all
        if monotonic() > deadline:
            break
        expected = _expected(renderer, talk)
        proof.reason = _wrong(renderer, marked, talk, expected)
        if proof.reason:
            proof.failed = talk
            return proof
        proof.proven += 1
        proof.masked += sum(expected.mask)
        proof.turns += len(expected.answers)
        proof.without_end += sum(not part.ended for part in expected.answers)
    return proof


def _wrong(renderer: Renderer, marked: str, talk: Talk, expected: _Expected) -> str:
    """Why the marked template does not do on this conversation; "" when it does."""
    try:
        if renderer.text(talk, template=marked) != expected.text:
            return f"row {talk.row}: with markers the template prints another text"
        earlier = talk.turns[:-1] or talk.turns
        if renderer.prompted(talk, earlier) != renderer.prompted(talk, earlier, marked):
            return f"row {talk.row}: with markers the template prints another generation prompt"
        ids, mask = renderer.masked(talk, marked)
    except Exception as error:
        return f"row {talk.row}: with markers the template fails: {why(error)}"
    if ids != expected.ids:
        return f"row {talk.row}: with markers the tokens are others"
    at = next((at for at, (a, b) in enumerate(zip(mask, expected.mask, strict=True)) if a != b), None)
    if at is None:
        return ""
    wrong = "is in the mask and not the assistant's" if mask[at] else "is the assistant's and not in the mask"
    return f"row {talk.row}: token {at} ({printable(repr(renderer.tokenizer.decode([ids[at]])))}) {wrong}"
