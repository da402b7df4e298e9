"""The sections of a recipe that are tuitune's own, described like the libraries' fields so that one code checks and completes both.

Keys of OWN are paths in the recipe, "*" standing for a place in a list. Type texts are unions of
bool, int, float, str, null, dict, any, list, list[str], list[int], list[float], list[dict].
"""

from dataclasses import dataclass
from typing import Any

from tuitune.recipe.tasks import TASKS

Pattern = tuple[str, ...]


@dataclass(frozen=True)
class FieldSpec:
    """One key. `choices` are the allowed words; with `open_choices` other words are possible too. `aliases`: names in other versions."""

    name: str
    type: str
    doc: str = ""
    choices: tuple[str, ...] = ()
    open_choices: bool = False
    default: Any = None
    required: bool = False
    aliases: tuple[str, ...] = ()
    deprecated: str | None = None

    @property
    def types(self) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.type.split("|"))


def _table(*specs: FieldSpec) -> dict[str, FieldSpec]:
    return {spec.name: spec for spec in specs}


_DTYPES = ("auto", "bfloat16", "float16", "float32")
ACTS = ("propose", "pause", "stop")
_ACTS = "propose: say so. pause: stand still. stop: save and end."
_SOURCES = "Each entry: path (file or Hub id), columns (target: source), max_rows, weight."

OWN: dict[Pattern, dict[str, FieldSpec]] = {
    (): _table(
        FieldSpec("name", "str", "Name of the run; the file's name when absent."),
        FieldSpec(
            "task",
            "str",
            f"Which TRL trainer: {', '.join(TASKS[:-1])} or {TASKS[-1]}; orpo, cpo and online_dpo are experimental in TRL.",
            default="sft",
            required=True,
        ),
        FieldSpec("model", "dict", "The model to start from; from_pretrained's own names.", required=True),
        FieldSpec("quantization", "dict | null", "BitsAndBytesConfig: load the base in 4 or 8 bits. Absent: not quantised."),
        FieldSpec("peft", "dict | null", "LoraConfig: train an adapter. Absent: full fine-tuning of all weights."),
        FieldSpec("tokenizer", "dict | null", "Padding token, added tokens, chat template."),
        FieldSpec("dataset", "dict", "What to train and evaluate on.", required=True),
        FieldSpec("training", "dict | null", "The fields of the installed TRL's config for this task (SFTConfig, DPOConfig, …)."),
        FieldSpec("rewards", "dict | null", "What judges the answers of grpo, rloo and online_dpo: functions of a Python file of yours."),
        FieldSpec(
            "watch",
            "dict | null",
            "What is followed while training: answers to sample prompts beside the base model's, and what it forgets.",
        ),
        FieldSpec("launch", "dict | null", "Where and how it runs: GPUs, precision of the adapter, retries."),
        FieldSpec("output", "dict | null", "Where runs are kept."),
    ),
    ("model",): _table(
        FieldSpec("name_or_path", "str", "Hub id (org/name) or a local directory, relative to the recipe.", required=True),
        FieldSpec("revision", "str | null", "Branch, tag or commit on the Hub.", default="main"),
        FieldSpec("dtype", "str | null", "Type of the weights in memory. auto: as in the checkpoint.", choices=_DTYPES, default="auto"),
        FieldSpec(
            "attn_implementation",
            "str | null",
            "Attention kernel. auto: the fastest correct one on this box; the run's ledger says which and why.",
            choices=("auto", "sdpa", "varlen", "eager"),
            open_choices=True,
            default="auto",
        ),
        FieldSpec("trust_remote_code", "bool", "Run Python code that comes with the model. Only for authors you trust.", default=False),
        FieldSpec("adapter", "str | null", "Start from this adapter (DPO after SFT): Hub id or directory."),
    ),
    ("tokenizer",): _table(
        FieldSpec("pad_token", "str | null", "Padding token. Absent: the tokenizer's own, else one that is not used in text."),
        FieldSpec("eos_token", "str | null", "Token that ends a turn. Absent: the tokenizer's own."),
        FieldSpec(
            "add_special_tokens",
            "list[str]",
            "New tokens: they get rows in the embedding, which are trained and saved with the adapter (a whole copy of the embedding).",
            default=[],
        ),
        FieldSpec("chat_template", "str | null", "A Jinja file, relative to the recipe. Absent: the tokenizer's own."),
    ),
    ("dataset",): _table(
        FieldSpec("train", "list[dict]", f"Sources to train on. {_SOURCES}", required=True),
        FieldSpec("eval", "list[dict] | null", f"Sources to evaluate on. {_SOURCES}"),
    ),
    ("launch",): _table(
        FieldSpec(
            "gpus",
            "int | str",
            "How many GPUs. auto: one, the free one with the most memory; n: a process on each (torchrun); cpu, none or 0: no GPU.",
            choices=("auto", "cpu", "none"),
            default="auto",
        ),
        FieldSpec(
            "nodes", "int", "How many machines, each with `gpus` of them: inside a SLURM job of so many nodes (tuitune slurm).", default=1
        ),
        FieldSpec(
            "strategy",
            "str",
            "How several GPUs share it. ddp: a copy on each. fsdp: weights, gradients and optimizer states spread over all (FSDP2). "
            "deepspeed: the same by ZeRO, when that package is installed.",
            choices=("ddp", "fsdp", "deepspeed"),
            default="ddp",
        ),
        FieldSpec("slurm", "dict | null", "Options of sbatch (partition, time, account, …) for the script that `tuitune slurm` writes."),
        FieldSpec(
            "adapter_dtype",
            "str",
            "Type of the LoRA weights. float32 keeps small updates; trl: what TRL does (bfloat16 on a quantised base).",
            choices=("float32", "bfloat16", "trl"),
            default="float32",
        ),
        FieldSpec(
            "rows_per_update",
            "int | null",
            "Rows that an optimizer step learns from, of all GPUs together; tuitune chooses per_device_train_batch_size, "
            "gradient_accumulation_steps and activation_checkpointing (where absent), the fastest that fit.",
        ),
        FieldSpec(
            "measure_split",
            "bool",
            "Before step 1, measure up to five of the ways to take rows_per_update apart that fit, on the first rows, and take the "
            "fastest: 60 seconds at most. On one GPU, or the CPU.",
            default=False,
        ),
        FieldSpec(
            "proof",
            "bool | null",
            "Run the longest batch before step 1, without a trace, and stop with advice when it does not fit. Absent: with a GPU.",
        ),
        FieldSpec("wait", "bool", "Wait for a GPU when other runs have all of them, instead of failing.", default=False),
        FieldSpec("retry", "dict | null", "How often a run is started again by itself, from its newest checkpoint, by cause."),
    ),
    ("launch", "retry"): _table(
        FieldSpec("oom", "int", "After running out of GPU memory: with half the batch and twice the accumulation steps.", default=0),
        FieldSpec("crash", "int", "After any other crash.", default=0),
    ),
    ("rewards",): _table(
        FieldSpec(
            "file",
            "str",
            "A Python file, relative to the recipe. It is your code and runs in the trainer, with all that you may do. It sees the "
            "installed packages, not the files beside it.",
            required=True,
        ),
        FieldSpec(
            "functions",
            "list[str]",
            "Names of its functions: each takes prompts, completions and every other column of the data as lists, by keyword (**kwargs for "
            "the rest), and returns a number for each completion, or None. Weights: training.reward_weights.",
            required=True,
        ),
    ),
    ("watch",): _table(
        FieldSpec(
            "prompts",
            "list[str]",
            "Prompts that are answered while training (greedy), the base model's answer beside the first. Through the chat template when "
            "the training data are conversations. The run stands still meanwhile.",
            default=[],
        ),
        FieldSpec("every", "int", "Steps between two rounds of answers.", default=50),
        FieldSpec("max_new_tokens", "int", "Length of an answer at most, in tokens.", default=128),
        FieldSpec("seconds", "float", "Time for one round of answers; what has not ended by then is cut off.", default=30.0),
        FieldSpec(
            "forgetting_probe",
            "str | null",
            "Texts whose loss is measured before the first step and every so many steps: it rises where the model forgets. builtin: 42 "
            "short texts of seven skills; or a file: jsonl with text (and skill), else a text a line.",
            choices=("builtin",),
            open_choices=True,
        ),
        FieldSpec(
            "then",
            "dict | null",
            "What an alarm does by itself, by its kind; beside that each proposes a command, which is yours to give. The order is given by "
            "tuitune, counts at the end of a step, and stands in the queue with the alarm as its reason.",
        ),
    ),
    ("watch", "then"): _table(
        FieldSpec(
            "nan",
            "str",
            "Loss or gradients are no numbers. pause keeps the run for a look; stop ends it. Nothing is saved in either case.",
            choices=("pause", "stop"),
            default="pause",
        ),
        FieldSpec("divergence", "str", f"The loss rises for good, or gradients explode. {_ACTS}", choices=ACTS, default="propose"),
        FieldSpec("plateau", "str", f"The last third has brought nothing. {_ACTS}", choices=ACTS, default="propose"),
        FieldSpec(
            "stall",
            "str",
            f"A step took five times as long as usual. {_ACTS} It counts when that step has ended; of one that never ends the hub tells.",
            choices=ACTS,
            default="propose",
        ),
        FieldSpec("forgetting", "str", f"The texts of forgetting_probe are known less well. {_ACTS}", choices=ACTS, default="propose"),
    ),
    ("output",): _table(
        FieldSpec("runs", "str", "Folder of the run directories, relative to the folder that tuitune was started in.", default="runs"),
    ),
}

_SOURCE = _table(
    FieldSpec("path", "str", "jsonl, json, csv, parquet or arrow file (relative to the recipe), or a Hub dataset id.", required=True),
    FieldSpec("subset", "str | null", "Configuration of a Hub dataset."),
    FieldSpec("split", "str | null", "Split of a Hub dataset. Absent: train, or test for eval."),
    FieldSpec("revision", "str | null", "Branch, tag or commit of a Hub dataset."),
    FieldSpec("columns", "dict | null", "target: source. What each column of the data is for; absent: by the columns' names."),
    FieldSpec("max_rows", "int | null", "Use only the first so many rows."),
    FieldSpec("weight", "float", "Share of this source when several are mixed.", default=1.0),
)
_COLUMNS = _table(
    FieldSpec("messages", "str", "A list of turns with role and content: through the chat template."),
    FieldSpec("system", "str", "The system turn of a conversation."),
    FieldSpec(
        "user",
        "str",
        "The user's turn: through the chat template. Alone, without assistant, where the model answers itself (grpo, rloo, online_dpo).",
    ),
    FieldSpec("assistant", "str", "The assistant's turn, the one that is learnt."),
    FieldSpec("context", "str", "Text that follows the user's turn (alpaca's `input`)."),
    FieldSpec("reasoning", "str", "The assistant's thinking, where the template has a place for it."),
    FieldSpec("prompt", "str", "Raw text before the completion, no chat template (a list of turns: through it)."),
    FieldSpec("completion", "str", "Raw text that is learnt, no chat template."),
    FieldSpec("text", "str", "Raw text, learnt as a whole, no chat template."),
    FieldSpec("chosen", "str", "The preferred answer."),
    FieldSpec("rejected", "str", "The answer to move away from."),
    FieldSpec("label", "str", "Whether an answer is good (KTO)."),
    FieldSpec("tools", "str", "Descriptions of the tools that may be called."),
    FieldSpec("chat_template_kwargs", "str", "Arguments of the chat template, row by row."),
)
for _split in ("train", "eval"):
    OWN["dataset", _split, "*"] = _SOURCE
    OWN["dataset", _split, "*", "columns"] = _COLUMNS

# What people set first: completion offers these before the alphabet.
COMMON = (
    *("num_train_epochs", "learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "max_length"),
    *("per_device_eval_batch_size", "lr_scheduler_type", "warmup_steps", "eval_strategy", "eval_steps", "save_strategy", "save_steps"),
    *("logging_steps", "packing", "packing_strategy", "max_steps", "seed", "optim", "weight_decay", "activation_checkpointing"),
    *("beta", "loss_type", "save_total_limit", "load_best_model_at_end"),
    *("r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "modules_to_save"),
    *("load_in_4bit", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "bnb_4bit_compute_dtype"),
)

# `auto` in these training keys means the same as leaving them out: the trainer fills in what fits the box and says so in the ledger.
# But torch_compile and use_liger_kernel are off where they are left out.
AUTO_TRAINING = frozenset(
    {"use_cpu", "bf16", "fp16", "tf32", "per_device_eval_batch_size", "padding_free", "activation_checkpointing", "gradient_checkpointing"}
) | {"use_liger_kernel", "torch_compile"}
# Elsewhere `auto` is a value of its own.
AUTO = frozenset({("model", "dtype"), ("model", "attn_implementation"), ("launch", "gpus"), ("peft", "task_type")}) | {
    ("training", name) for name in AUTO_TRAINING
}
