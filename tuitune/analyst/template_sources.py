"""Where a chat template comes from: the one a recipe trains with, and the one it is compared with."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import transformers
from trl.chat_template_utils import get_training_chat_template, has_generation_markers

from tuitune.errors import UserError
from tuitune.recipe.recipe import Recipe, resolve_path
from tuitune.template.document import Source
from tuitune.text import printable
from tuitune.trainer.build import why_not_loaded

TRAINING = "training"
FILES = (".jinja", ".jinja2", ".j2", ".gguf")


def source(text: str, origin: str) -> Source:
    """A template with its fingerprint."""
    return Source(text, origin, sha256(text.encode("utf-8", "surrogatepass")).hexdigest(), has_generation_markers(text))


def own(recipe: Recipe, tokenizer: Any, tools: Any) -> Source:
    """The template of the recipe's tokenizer, before anything that TRL does to it. UserError when there is none."""
    name = printable(str(recipe.model["name_or_path"]))
    if not tokenizer.chat_template:
        raise UserError(f"the tokenizer of {name} has no chat template; name a Jinja file in tokenizer.chat_template")
    if recipe.tokenizer.get("chat_template"):
        return source(tokenizer.chat_template, f"tokenizer.chat_template: {printable(recipe.tokenizer['chat_template'])}")
    text = tokenizer.get_chat_template(tools=tools)
    if isinstance(tokenizer.chat_template, dict):
        variant = next(key for key, value in tokenizer.chat_template.items() if value == text)
        return source(text, f"the tokenizer of {name}, variant {printable(variant)!r} of {len(tokenizer.chat_template)}")
    file = next((file for file in ("chat_template.jinja", "tokenizer_config.json") if (Path(name) / file).is_file()), None)
    return source(text, f"the tokenizer of {name}" + (f", {file}" if file else ""))


def trained_with(recipe: Recipe, tokenizer: Any, stock: Source) -> tuple[Source, str | None, str | None]:
    """(the template that the trainer renders with, the text to hand to apply_chat_template or None for the tokenizer's own, a note).

    TRL swaps in a variant of its own for assistant_only_loss; where it has none it refuses to train, and the note says so."""
    if recipe.task != "sft" or not recipe.training.get("assistant_only_loss") or stock.generation:
        return stock, None, None
    try:
        found = training_variant(tokenizer, stock)
    except UserError as error:
        return stock, None, f"training.assistant_only_loss: {error}"
    return found, found.text, None


def training_variant(tokenizer: Any, stock: Source) -> Source:
    """What TRL makes of a template for assistant_only_loss. UserError with TRL's reason when it makes nothing of it."""
    try:
        text = get_training_chat_template(tokenizer)
    except Exception as error:
        reason = printable(" ".join(str(error).split()), limit=300)
        raise UserError(
            f"TRL has no training variant of this template: {reason} `tuitune template --mark-generation` may make one"
        ) from error
    if text is None:
        raise UserError("TRL trains with this template as it is: it has {% generation %} already and keeps earlier turns as they were")
    return source(text, f"TRL's training variant of {stock.origin}")


def other(name: str, recipe: Recipe, tokenizer: Any, stock: Source) -> Source:
    """The template to compare with: "training", a Jinja or GGUF file, a model's folder or Hub id. UserError when there is none."""
    if name == TRAINING:
        return training_variant(tokenizer, stock)
    path = resolve_path(name, Path.cwd())
    if not path.exists():
        path = resolve_path(name, recipe.base)
    shown = printable(str(path))
    if path.suffix.lower() == ".gguf":
        return source(_of_gguf(path), f"tokenizer.chat_template of {shown}")
    if path.is_file() or path.suffix.lower() in FILES:
        try:
            return source(path.read_text(encoding="utf-8"), shown)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{shown} cannot be read as a template ({error})") from error
    if (path / "chat_template.jinja").is_file():
        return source((path / "chat_template.jinja").read_text(encoding="utf-8"), str(printable(str(path / "chat_template.jinja"))))
    model = str(path) if path.exists() else name
    try:
        loaded = transformers.AutoTokenizer.from_pretrained(model)
    except Exception as error:
        raise UserError(why_not_loaded(model, error)) from error
    if not loaded.chat_template:
        raise UserError(f"the tokenizer of {printable(model)} has no chat template")
    return source(loaded.get_chat_template(), f"the tokenizer of {printable(model)}")


def _of_gguf(path: Path) -> str:
    import gguf

    try:
        field = gguf.GGUFReader(path).get_field("tokenizer.chat_template")
    except Exception as error:
        raise UserError(f"{printable(str(path))} cannot be read as GGUF ({printable(str(error), limit=200)})") from error
    if field is None:
        raise UserError(f"{printable(str(path))} has no tokenizer.chat_template")
    return str(field.contents())
