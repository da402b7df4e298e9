"""Names that changed: between library versions, since older tutorials, and values that have their home in another section.

A removed name is only looked up here when the installed libraries do not know it, so an older transformers keeps its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

# Two names for one field, newest first: neither is an error, the installed one is passed on.
TWINS = (
    ("activation_checkpointing", "gradient_checkpointing"),
    ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs"),
)
_NEWEST = {old: new for new, old in TWINS}
_OTHER = {**_NEWEST, **dict(TWINS)}


def canonical_name(name: str) -> str:
    """The newest name of a training field."""
    return _NEWEST.get(name, name)


def twin(name: str) -> str | None:
    """The field's name in the other library version, if it has two."""
    return _OTHER.get(name)


@dataclass(frozen=True)
class Home:
    """Where a value that trainers also take as an argument lives in a recipe; `key` None: it cannot be moved as it is."""

    section: str
    key: str | None
    advice: str


HOMES = {
    "pad_token": Home("tokenizer", "pad_token", "section `tokenizer:`"),
    "eos_token": Home("tokenizer", "eos_token", "section `tokenizer:`"),
    "chat_template_path": Home("tokenizer", "chat_template", "`chat_template` in section `tokenizer:`"),
    "trust_remote_code": Home("model", "trust_remote_code", "section `model:`"),
    "model_init_kwargs": Home("model", None, "section `model:`, key by key"),
    "quantization_config": Home("quantization", None, "section `quantization:`"),
    "output_dir": Home("output", "runs", "`runs` in section `output:`"),
    "fsdp": Home("launch", None, "section `launch:` (strategy: fsdp)"),
    "fsdp_config": Home("launch", None, "section `launch:` (strategy: fsdp)"),
    "deepspeed": Home("launch", None, "section `launch:` (strategy: deepspeed)"),
    "tokenizer": Home("tokenizer", None, "section `tokenizer:`"),
    "processing_class": Home("tokenizer", None, "section `tokenizer:`"),
    "tokenizer_name": Home("tokenizer", None, "section `tokenizer:`"),
    "peft_config": Home("peft", None, "section `peft:`"),
}


@dataclass(frozen=True)
class Renamed:
    """`new` is None for an option that is gone. `value` gives the text of the new value, None when the entry must go altogether."""

    new: str | None
    why: str = ""
    value: Callable[[object], str | None] | None = None


def _when_true(word: str) -> Callable[[object], str | None]:
    return lambda value: word if value is True else None


_SAFE = "checkpoints are always written as safetensors"
_GONE = "the installed transformers no longer has it"

RENAMED: dict[str, dict[str, Renamed]] = {
    "": {
        "lora": Renamed("peft"),
        "train": Renamed("training"),
        "trainer": Renamed("training"),
        "training_args": Renamed("training"),
        "training_arguments": Renamed("training"),
        "data": Renamed("dataset"),
        "datasets": Renamed("dataset"),
        "bitsandbytes": Renamed("quantization"),
        "bnb": Renamed("quantization"),
    },
    "model": {
        "torch_dtype": Renamed("dtype"),
        "model_name_or_path": Renamed("name_or_path"),
        "pretrained_model_name_or_path": Renamed("name_or_path"),
        "base_model": Renamed("name_or_path"),
        "id": Renamed("name_or_path"),
        "path": Renamed("name_or_path"),
        "use_flash_attention_2": Renamed("attn_implementation", value=_when_true("flash_attention_2")),
    },
    "peft": {
        "lora_r": Renamed("r"),
        "rank": Renamed("r"),
        "alpha": Renamed("lora_alpha"),
        "dropout": Renamed("lora_dropout"),
        "lora_target_modules": Renamed("target_modules"),
        "rslora": Renamed("use_rslora"),
        "peft_type": Renamed(None, "the section is LoraConfig, which sets it by itself"),
        "inference_mode": Renamed(None, "training always sets it to false"),
    },
    "training": {
        "max_seq_length": Renamed("max_length"),
        "max_seq_len": Renamed("max_length"),
        "sequence_len": Renamed("max_length"),
        "cutoff_len": Renamed("max_length"),
        "evaluation_strategy": Renamed("eval_strategy"),
        "warmup_ratio": Renamed("warmup_steps", "a `warmup_steps` below 1 is a share of all steps"),
        "per_gpu_train_batch_size": Renamed("per_device_train_batch_size"),
        "per_gpu_eval_batch_size": Renamed("per_device_eval_batch_size"),
        "micro_batch_size": Renamed("per_device_train_batch_size"),
        "batch_size": Renamed("per_device_train_batch_size"),
        "train_batch_size": Renamed("per_device_train_batch_size"),
        "eval_batch_size": Renamed("per_device_eval_batch_size"),
        "lr": Renamed("learning_rate"),
        "epochs": Renamed("num_train_epochs"),
        "num_epochs": Renamed("num_train_epochs"),
        "lr_scheduler": Renamed("lr_scheduler_type"),
        "optimizer": Renamed("optim"),
        "no_cuda": Renamed("use_cpu"),
        "group_by_length": Renamed("train_sampling_strategy", value=_when_true("group_by_length")),
        "fp16_backend": Renamed(None, _GONE),
        "half_precision_backend": Renamed(None, _GONE),
        "fp16_opt_level": Renamed(None, _GONE),
        "overwrite_output_dir": Renamed(None, "every run has a directory of its own"),
        "logging_dir": Renamed(None, "the run directory holds the logs"),
        "save_safetensors": Renamed(None, _SAFE),
        "use_mps_device": Renamed(None, _GONE),
        "jit_mode_eval": Renamed(None, _GONE),
        "use_ipex": Renamed(None, _GONE),
        "past_index": Renamed(None, _GONE),
        "ray_scope": Renamed(None, _GONE),
        "torchdynamo": Renamed(None, _GONE),
        "tpu_num_cores": Renamed(None, _GONE),
        "include_inputs_for_metrics": Renamed(None, _GONE),
        "push_to_hub_token": Renamed("hub_token"),
        "push_to_hub_model_id": Renamed("hub_model_id"),
        "max_prompt_length": Renamed(None, "TRL truncates prompt and answer together: set `max_length`"),
        "max_target_length": Renamed(None, "TRL truncates prompt and answer together: set `max_length`"),
        "ref_model_init_kwargs": Renamed(None, "the reference model is the base model of section `model:`"),
    },
}
