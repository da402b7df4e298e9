"""Checks of where the template comes from, and whether there is one."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tuitune.preflight.context import Context
from tuitune.preflight.finding import Found, Where
from tuitune.preflight.registry import Stage, check
from tuitune.preflight.template.places import PLAIN, new_template, of_template
from tuitune.template.difference import unified
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.analyst.check_context import CheckContext

LINES = 40  # of a difference that are shown


@check("TPL16", "warning", "two chat templates in one folder, and the other one wins", Stage.HEADERS)
def file_over_config(context: Context) -> Iterator[Found]:
    """The model's folder has a chat_template.jinja that is not the chat_template of tokenizer_config.json: the file wins, without a word.

    Whoever edited the template in tokenizer_config.json trains with another one. Line ends and a last empty line make no difference.
    Do: remove the one that is not meant; or name the one that is in the recipe's tokenizer.chat_template, which goes before both.
    Known from: transformers 5 (tokenization_utils_base: chat_template.jinja replaces the config's).
    """
    if context.recipe.tokenizer.get("chat_template"):
        return
    file = context.model.folder / "chat_template.jinja"
    configured = (context.model.tokenizer_config or {}).get("chat_template")
    named = _named(configured)
    if not file.exists() or not named:
        return
    text = file.read_text(encoding="utf-8", errors="replace")
    lost = [name for name, template in named.items() if name != "default" or _same(template) != _same(text)]
    if lost:
        patch = unified(named.get("default", ""), text, "tokenizer_config.json", "chat_template.jinja").splitlines()
        yield Found(
            "chat_template.jinja and the chat_template of tokenizer_config.json are not the same, and the file wins: a template that was "
            "edited in tokenizer_config.json is not used. Remove the one that is not meant, or name it in tokenizer.chat_template",
            Where(str(file), view="template"),
            {"used": file.name, "unused": "tokenizer_config.json", "templates": lost, "difference": patch[:LINES]},
        )


def _named(configured: Any) -> dict[str, str]:
    """name → template of what tokenizer_config.json says."""
    if isinstance(configured, str):
        return {"default": configured}
    entries = configured if isinstance(configured, list) else []
    return {str(entry.get("name")): str(entry.get("template")) for entry in entries if isinstance(entry, dict)}


def _same(template: str) -> str:
    return template.replace("\r\n", "\n").rstrip("\n")


@check("TPL01", "error", "conversations and no chat template", Stage.TOKENIZER)
def no_template(context: "CheckContext") -> Iterator[Found]:
    """The rows are conversations and the tokenizer has no chat template: nothing says how turns become text, and TRL refuses to train.

    Do: name a Jinja file in tokenizer.chat_template; take the model's instruct version, which brings one; or map the columns to prompt and
    completion. The proposed template marks turns with plain words and the model's own end token, so that it needs no token of its own.
    Known from: transformers ("Cannot use chat template functions because tokenizer.chat_template is not set").
    """
    if context.missing_template == "TPL01":
        fix = new_template(context, "write a plain template with the model's own end token, and use it", PLAIN, "chat")
        yield Found(
            f"the rows are conversations, and the tokenizer of {printable(str(context.recipe.model['name_or_path']))} has no chat "
            "template: the run stops before its first step. Name a Jinja file in tokenizer.chat_template, take the model's instruct "
            "version, or map the columns to prompt and completion",
            context.at("tokenizer", "chat_template", view="template"),
            {"format": context.train.format},
            fix if context.loaded_tokenizer.eos_token else None,
        )


@check("TPL02", "error", "named chat templates without a default", Stage.TOKENIZER)
def no_default(context: "CheckContext") -> Iterator[Found]:
    """The tokenizer has several chat templates by name and none is called default: transformers cannot choose one and raises.

    The one called tool_use is taken for rows with tools, and only for them.
    Do: name the file of the one that is meant in tokenizer.chat_template.
    Known from: transformers (get_chat_template raises ValueError).
    """
    if context.missing_template == "TPL02":
        templates = context.loaded_tokenizer.chat_template
        names = ", ".join(printable(name) for name in templates)
        only = next(iter(templates.values())) if len(templates) == 1 else None
        yield Found(
            f"the tokenizer has the chat templates {names} and none called default, so none is used for rows without tools: the run stops "
            "before its first step. Name a Jinja file in tokenizer.chat_template",
            of_template(context),
            {"templates": list(templates)},
            new_template(context, "write its only template to a file, and use it", only, "chat") if only else None,
        )


@check("TPL19", "info", "TRL trains with a template of its own", Stage.DATA)
def training_template(context: "CheckContext") -> Iterator[Found]:
    """With training.assistant_only_loss TRL puts a variant of its own in the template's place while training; what is saved is the
    original.

    The render is meant to be the same but for what the variant keeps (reasoning of earlier turns). Do: nothing, if the difference is
    what you want; `tuitune template --diff training` shows both on your rows.
    Known from: trl.chat_template_utils.get_training_chat_template.
    """
    renders = context.renders
    if renders.source.text != renders.stock.text:
        patch = unified(renders.stock.text, renders.source.text, "the tokenizer's", "TRL's").splitlines()
        yield Found(
            f"training uses TRL's variant of the chat template ({sum(line[:1] in '+-' for line in patch)} lines differ), and the tokenizer "
            "is saved with the original; `tuitune template --diff training` shows both on your rows",
            of_template(context),
            {"difference": patch[:LINES]},
        )
