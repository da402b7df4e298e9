"""The model card (README.md) of a result, out of its run's own records. No figure in it that no record has.

Imports no torch. Everything that comes from recipes, data and models stands in code spans and blocks, without folders of this box.
"""

import math
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tuitune import __version__
from tuitune.after.ledger_facts import RunFacts, Weights
from tuitune.after.markdown import block, code, table
from tuitune.after.private import is_hub_id, public, public_value, short
from tuitune.after.report import between, number, signed
from tuitune.runs.curves import Curve

Kind = Literal["adapter", "model"]
METHODS = {"sft": "supervised fine-tuning (SFT)", "dpo": "direct preference optimisation (DPO)", "kto": "KTO", "reward": "reward modelling"}
FIGURES = {
    "loss": "training loss",
    "eval_loss": "evaluation loss",
    "eval_mean_token_accuracy": "evaluation token accuracy",
    "eval_rewards/accuracies": "evaluation: chosen above rejected",
    "eval_rewards/margins": "evaluation: reward margin",
}
TRAINING = (
    "learning_rate",
    "lr_scheduler_type",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "max_length",
    "packing",
    "optim",
    "beta",
    "loss_type",
    "seed",
)
LORA = ("r", "lora_alpha", "lora_dropout", "target_modules", "modules_to_save", "use_dora", "use_rslora")


@dataclass(frozen=True)
class Subject:
    """What is published: `repo` on the Hub, the base model's public name, and what there is to read. `facts`: None for what no run
    of ours made; `weights`: which of that run's; `judges`: a reward model, which scores and does not write."""

    repo: str
    kind: Kind
    base: str
    facts: RunFacts | None
    template: bool
    rank: int | None = None
    dtype: str | None = None
    equivalence: dict[str, Any] | None = None
    weights: Weights | None = None
    judges: bool = False


def public_base(name: str, given: str | None = None) -> str:
    """What to call the base model in public: the name that was given, a Hub id as it is, the last part of a folder."""
    return given or (name if is_hub_id(name) else short(name))


def model_card(subject: Subject) -> str:
    """The whole README.md, front matter first."""
    parts = [f"---\n{front_matter(subject)}---", f"# {_heading(subject.repo)}", _summary(subject), _use(subject)]
    if subject.facts is not None:
        parts += [_training(subject.facts, subject.weights), _figures(subject.facts, subject.weights)]
        parts += [_data(subject.facts), _recipe(subject.facts)]
    if subject.equivalence is not None:
        parts.append(_merge(subject.equivalence))
    return "\n\n".join(part for part in parts if part) + "\n"


def front_matter(subject: Subject) -> str:
    """The YAML that the Hub reads (https://huggingface.co/docs/hub/model-cards). Only names that the Hub can know are in it."""
    facts = subject.facts
    task = str(facts.value("recipe", "task")) if facts else None
    about: dict[str, Any] = {
        "library_name": "peft" if subject.kind == "adapter" else "transformers",
        "pipeline_tag": "text-classification" if subject.judges else "text-generation",
        "tags": ["tuitune", *(["trl", task] if task else []), *(["lora"] if subject.kind == "adapter" else [])],
    }
    if is_hub_id(subject.base) and "/" in subject.base:
        about |= {"base_model": subject.base, "base_model_relation": "adapter" if subject.kind == "adapter" else "finetune"}
    datasets = sorted({name for name in _sources(facts) if is_hub_id(name) and "/" in name and "." not in short(name)}) if facts else []
    if datasets:
        about["datasets"] = datasets
    from huggingface_hub import ModelCardData  # 300 ms: only for who writes a card

    return ModelCardData(**about).to_yaml() + "\n"


def _heading(repo: str) -> str:
    return repo.rpartition("/")[2].replace("_", r"\_")


def _summary(subject: Subject) -> str:
    what = "A LoRA adapter for" if subject.kind == "adapter" else "A fine-tuned model, made from"
    facts = subject.facts
    if facts is None:
        return f"{what} {code(subject.base)}."
    task = str(facts.value("recipe", "task"))
    return f"{what} {code(subject.base)}: {METHODS.get(task, code(task))}, run {code(facts.manifest.name)}."


def _score(subject: Subject) -> str:
    """How to have a text scored; head and adapter load in one call where the adapter brings the head."""
    auto = "AutoPeftModelForSequenceClassification" if subject.kind == "adapter" else "AutoModelForSequenceClassification"
    imports = f"from peft import {auto}" if subject.kind == "adapter" else f"from transformers import {auto}"
    ids = (
        "turns = [{'role': 'user', 'content': '…'}, {'role': 'assistant', 'content': '…'}]\n"
        "ids = tokenizer.apply_chat_template(turns, return_tensors='pt', return_dict=True)\n"
        if subject.template
        else "ids = tokenizer('…', return_tensors='pt')\n"
    )
    python = (
        f"{imports}\nfrom transformers import AutoTokenizer\n\n"
        f"model = {auto}.from_pretrained({subject.repo!r}, num_labels=1, dtype='auto')\n"
        f"tokenizer = AutoTokenizer.from_pretrained({subject.repo!r})\n{ids}print(model(**ids).logits[0, 0].item())\n"
    )
    return f"## How to use\n\nIt gives a text a score: more is better.\n\n{block(python, 'python')}"


def _use(subject: Subject) -> str:
    if subject.judges:
        return _score(subject)
    repo, base = subject.repo, subject.base
    if subject.kind == "adapter":
        load = (
            "from peft import AutoPeftModelForCausalLM\n"
            "from transformers import AutoTokenizer\n\n"
            f"model = AutoPeftModelForCausalLM.from_pretrained({repo!r}, dtype='auto')\n"
        )
        rank = f" --max-lora-rank {subject.rank}" if subject.rank else ""
        serve = f"vllm serve {shlex.quote(base)} --enable-lora --lora-modules {repo.rpartition('/')[2]}={repo}{rank}"
    else:
        load = (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f"model = AutoModelForCausalLM.from_pretrained({repo!r}, dtype='auto')\n"
        )
        serve = f"vllm serve {repo}"
    ask = (
        "turns = [{'role': 'user', 'content': '…'}]\n"
        "ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors='pt', return_dict=True)\n"
        if subject.template
        else "ids = tokenizer('…', return_tensors='pt')\n"
    )
    answer = "made = model.generate(**ids, max_new_tokens=256)\nprint(tokenizer.decode(made[0, ids['input_ids'].shape[1]:]))\n"
    python = f"{load}tokenizer = AutoTokenizer.from_pretrained({repo!r})\n{ask}{answer}"
    return f"## How to use\n\n{block(python, 'python')}\n\nServed by vLLM:\n\n{block(serve, 'sh')}"


def _training(facts: RunFacts, weights: Weights | None) -> str:
    rows = [("task", code(facts.value("recipe", "task"))), ("weights trained in", code(facts.value("model", "trained_dtype")))]
    count = facts.value("model", "trained_parameters")
    if isinstance(count, int):
        rows.append(("trained parameters", f"{count:,}"))
    if facts.value("quantization", "load_in_4bit"):
        rows.append(("base while training", code(f"4 bit ({facts.value('quantization', 'bnb_4bit_quant_type')})")))
    for section, keys in (("peft", LORA), ("training", TRAINING)):
        known = [(key, facts.value(section, key)) for key in keys if facts.value(section, key) not in (None, False, -1, [], {})]
        rows += [(code(key), code(_value(value))) for key, value in known]
    steps = f"{facts.manifest.step:,}" if facts.manifest.step is not None else "—"
    apart = weights is not None and weights.step is not None and weights.step != facts.manifest.step
    rows.append(("steps", f"{steps}; these weights are of step {weights.step:,}" if weights and apart else steps))
    rows.append(("hardware", code(_hardware(facts))))
    if facts.seconds is not None:
        rows.append(("time", _duration(facts.seconds)))
    versions = facts.hello.get("versions") or facts.manifest.versions
    rows.append(("versions", code(", ".join(f"{name} {version}" for name, version in versions.items() if version))))
    rows.append(("tuitune", code(__version__)))
    return f"## Training\n\n{table(('', ''), rows)}"


def _hardware(facts: RunFacts) -> str:
    devices = facts.hello.get("devices") or []
    name = str(devices[0].get("name")) if devices and isinstance(devices[0], dict) else str(facts.value("launch", "device") or "?")
    count = facts.hello.get("world")
    return f"{count} × {name}" if isinstance(count, int) and count > 1 else name


def _figures(facts: RunFacts, weights: Weights | None) -> str:
    """The training's own figures at the published weights, then the evaluations of these, and apart from them those of others."""
    step = weights.step if weights else None
    rows = [(title, *cells) for name, title in FIGURES.items() if (cells := _first_and_now(facts.curves.get(name), step))]
    head = ("", "first", "last" if step is None else "these weights")
    parts = [f"## Figures\n\n{table(head, rows)}"] if rows else []
    own = [one for one in facts.evaluations if weights is not None and weights.are_of(one)]
    others = [one for one in facts.evaluations if one not in own]
    parts += [text for one in own if (text := _evaluation(one, "### Evaluation"))]
    apart = [text for one in others if (text := _evaluation(one, f"#### {_whose(one)}"))]
    if apart:
        parts += ["### Evaluations of other weights of this run\n\nNot of what is published here.", *apart]
    return "\n\n".join(parts)


def _first_and_now(curve: Curve | None, step: int | None) -> tuple[str, ...]:
    """A figure's first value and the one of a step (None: the last), each with the step at which it was measured; () without them."""
    pairs = [(value, int(at)) for at, value in zip(curve.steps, curve.values)] if curve else []
    until = [pair for pair in pairs if step is None or pair[1] <= step]
    if not until or not all(math.isfinite(value) for value, _ in (until[0], until[-1])):
        return ()
    return tuple(f"{_figure(value)} (step {at:,})" for value, at in (until[0], until[-1]))


def _whose(report: dict[str, Any]) -> str:
    """The weights that a report is of, as its evaluation called them."""
    source = report.get("source")
    words = source.get("words") if isinstance(source, dict) else None
    return f"Evaluation of {code(short(str(words)) if words else 'unnamed weights')}"


def _evaluation(document: dict[str, Any], title: str) -> str:
    """The figures of one report (tuitune eval), without its rows: those are somebody's data."""
    try:
        sides, figures = list(document["sides"]), list(document["figures"])
        rows = [_evaluated(figure, sides) for figure in figures]
        files = ", ".join(code(short(str(file))) for file in (document["data"] or {}).get("files") or [])
    except (KeyError, TypeError, ValueError, AttributeError):
        return ""  # a report of another version
    head = ("metric", *map(code, sides), *(("difference", "95 % interval") if len(sides) == 2 else ()), "rows")
    return f"{title} on {files or 'held-out rows'}\n\n{table(head, rows)}" if rows else ""


def _evaluated(figure: dict[str, Any], sides: list[str]) -> tuple[str, ...]:
    both = (signed(figure["difference"], figure), between(figure["interval"], figure)) if len(sides) == 2 else ()
    return (code(figure["title"]), *(number(figure["values"][side], figure) for side in sides), *both, f"{int(figure['rows']):,}")


def _data(facts: RunFacts) -> str:
    lines = []
    for source in facts.value("dataset", "train") or []:
        name = str(source.get("path", "?")) if isinstance(source, dict) else str(source)
        lines.append(f"- {code(name if is_hub_id(name) else short(name))}")
    data = facts.data
    if isinstance(data.get("rows"), int):
        tokens = (
            f", {data['tokens']:,} tokens ({data.get('trained_tokens', 0):,} in the loss)" if isinstance(data.get("tokens"), int) else ""
        )
        lines.append(f"- {data['rows']:,} rows{tokens}, format {code(data.get('format', '?'))}")
    if facts.manifest.data_fingerprint:
        lines.append(f"- sha256 of the rows {code(facts.manifest.data_fingerprint)}")
    return "## Data\n\n" + "\n".join(lines) if lines else ""


def _sources(facts: RunFacts) -> list[str]:
    return [str(source.get("path")) for source in facts.value("dataset", "train") or [] if isinstance(source, dict)]


def _recipe(facts: RunFacts) -> str:
    return f"## Recipe\n\nTrained with tuitune; paths are shortened.\n\n{block(public(facts.recipe), 'yaml')}"


def _merge(found: dict[str, Any]) -> str:
    words = found.get("words")
    return f"## Merge\n\nThe merged weights against the adapter on its base: {code(words, limit=400)}" if words else ""


def _value(value: Any) -> str:
    value = public_value(value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _figure(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "—"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def has_template(folder: Path) -> bool:
    """Whether a model's folder brings a chat template."""
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    try:
        return "chat_template" in (folder / "tokenizer_config.json").read_text(encoding="utf-8")
    except OSError:
        return False
