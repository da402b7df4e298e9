"""Which class the tokenizer is loaded with, and what that changes: TOK11, TOK16, TOK17."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tuitune.preflight.context import Context
from tuitune.preflight.finding import Found, Where
from tuitune.preflight.registry import Stage, check
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext

PROBES = (
    *("12345678 and 90", "a  b   c", "line\nline\n\nline", "one\ttwo\t\tthree", "漢字とかな", "🙂 👩‍💻", "don't I'LL we've"),
    *("naïve café", "def f(x):\n    return x + 1", "x\r\ny", "<b>1,234.5</b> & {'a': [1, 2]}"),
)
TEXTS = 200  # of the data, beside the probes
LONGEST = 2000  # characters of each that are compared
AS_IT_STANDS = ("TokenizersBackend", "PreTrainedTokenizerFast")  # classes that take tokenizer.json and change nothing
REMEDY = 'Write "tokenizer_class": "TokenizersBackend" into the model\'s tokenizer_config.json'
UNSET = 10**12  # tokenizers without a limit say 1e30
SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
FILES = ("tokenizer.json", "tekken.json", "vocab.json", "vocab.txt", *SENTENCEPIECE)


@check("TOK11", "warning", "the tokenizer's class changes its ids", Stage.TOKENIZER)
def class_changes_ids(context: "CheckContext") -> Iterator[Found]:
    """The class that tokenizer_config.json names rebuilds the rules and ignores those of tokenizer.json: other ids than the model learnt.

    The loaded tokenizer is compared with tokenizer.json itself on probes (digits, blanks, newlines, CJK, emoji) and on texts of the data.
    A warning where ids differ, an error where the text does not come back. Blanks at the beginning are left out: classes treat them
    differently on purpose.
    Do: write "tokenizer_class": "TokenizersBackend" into the model's tokenizer_config.json, which takes tokenizer.json as it stands.
    Known from: transformers#45488, #45345, #48219, vllm#48482.
    """
    tokenizer = context.tokenizer
    if not getattr(tokenizer, "is_fast", False) or type(tokenizer).__name__ in AS_IT_STANDS:
        return
    raw = context.raw_tokenizer
    new = context.recipe.tokenizer.get("add_special_tokens") or ()
    texts = [text for text in (*PROBES, *context.some_texts(TEXTS, LONGEST)) if not any(token in text for token in new)]
    theirs = [encoding.ids for encoding in raw.encode_batch(texts, add_special_tokens=False)]
    name, where = type(tokenizer).__name__, Where(str(context.model.folder / "tokenizer_config.json"), view="tokens")
    try:
        ours = tokenizer(texts, add_special_tokens=False)["input_ids"]
    except Exception as error:  # the Rust side raises nothing more special
        yield Found(
            f"loaded as {name} the tokenizer fails ({printable(str(error), limit=120)}), though its tokenizer.json is sound. {REMEDY}",
            where,
            {"class": name, "error": printable(str(error), limit=300)},
            severity="error",
        )
        return
    different = [at for at, (mine, its) in enumerate(zip(ours, theirs, strict=True)) if list(mine) != its]
    if not different:
        return
    broken = []
    for at in different:
        back = raw.decode(theirs[at], skip_special_tokens=False)
        if tokenizer.decode(ours[at]).strip() != back.strip():
            broken.append(at)
    at = (broken or different)[0]
    shown = printable(texts[at], limit=60)
    consequence = f"{shown!r} comes back as {printable(tokenizer.decode(ours[at]), limit=60)!r}" if broken else f"e.g. for {shown!r}"
    yield Found(
        f"loaded as {name} the tokenizer gives other ids than tokenizer.json for {len(different)} of {len(texts)} texts ({consequence}): "
        f"the model reads other words than it learnt. {REMEDY}",
        where,
        {"class": name, "text": shown, "ids": list(ours[at])[:20], "expected": theirs[at][:20], "different": len(different)},
        severity="error" if broken else "warning",
    )


@check("TOK16", "info", "the tokenizer's own length limit", Stage.ROWS)
def shorter_than_max_length(context: "CheckContext") -> Iterator[Found]:
    """training.max_length is larger than the length that the tokenizer says the model takes. Nothing is cut by it, transformers only warns.

    A warning when rows really are longer and config.json does not say that the model takes them.
    Do: lower training.max_length, unless you know that the model takes more.
    Known from: PreTrainedTokenizerBase.model_max_length.
    """
    limit = context.tokenizer.model_max_length
    wanted = context.training.get("max_length", 1024)
    if not isinstance(wanted, int) or limit > UNSET or limit >= wanted:
        return
    longest = min(context.longest, wanted)
    positions = context.model.text_config.get("max_position_embeddings")
    told = longest > limit and not (isinstance(positions, int) and positions >= longest)
    consequence = f"rows of up to {longest} tokens go beyond it" if longest > limit else "no row is that long"
    yield Found(
        f"training.max_length is {wanted}, the tokenizer says that the model takes {limit} tokens; {consequence}"
        f"{'. Lower training.max_length, unless you know that the model takes more' if told else ''}",
        context.at("training", "max_length"),
        {"max_length": wanted, "model_max_length": limit, "longest": longest, "max_position_embeddings": positions},
        severity="warning" if told else "info",
    )


@check("TOK17", "error", "a tokenizer of another library", Stage.HEADERS)
def another_library(context: Context) -> Iterator[Found]:
    """The tokenizer's files need a library that is not here, or one that cannot train: mistral-common (which is taken as soon as it is
    installed and there is a tekken.json) has no chat template and refuses conversations that end with an answer.

    Do: take a copy of the model with a tokenizer.json; the message names the library otherwise.
    Known from: transformers.integrations.mistral.resolve_mistral_format; 'Error parsing line' without sentencepiece.
    """
    folder = context.model.folder
    have = {name for name in FILES if (folder / name).exists()} | {file.suffix for file in folder.glob("*.tiktoken")}
    where = Where(str(folder), view="alignment")
    if not have:
        if not context.model.in_hub_cache and not (folder / "tokenizer_config.json").exists():
            yield Found(f"{printable(str(folder))} has no tokenizer: copy tokenizer.json and tokenizer_config.json into it", where)
        return
    lacking: list[str] = []
    if "tekken.json" in have and find_spec("mistral_common") is not None:
        reason = "mistral-common is installed and takes tekken.json, and it can neither render a chat template nor train on answers"
        remedy = "uninstall mistral-common" if "tokenizer.json" in have else "take a copy of the model with a tokenizer.json"
    elif have - {"tekken.json", *SENTENCEPIECE}:
        return
    elif have == {"tekken.json"}:
        reason, remedy = "tekken.json is its only file and needs mistral-common", "take a copy of the model with a tokenizer.json"
    else:
        lacking = [
            name for name, module in (("sentencepiece", "sentencepiece"), ("protobuf", "google.protobuf")) if not _importable(module)
        ]
        if not lacking:
            return
        reason = f"its only file is a SentencePiece model, which needs {' and '.join(lacking)}"
        remedy = f"run `pip install {' '.join(lacking)}`, or take a copy of the model with a tokenizer.json"
    yield Found(
        f"the tokenizer cannot be used as it stands: {reason}; {remedy}",
        where,
        {"files": sorted(have), "missing": lacking},
    )


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
