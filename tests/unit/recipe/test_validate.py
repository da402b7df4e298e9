"""What a recipe may say: each kind of mistake with its code, its place and the text that its fix makes of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from tuitune.dataset import columns
from tuitune.recipe.document import parse
from tuitune.recipe.problems import CODES, Problem, apply_fix
from tuitune.recipe.schema import Schema
from tuitune.recipe.sections import OWN
from tuitune.recipe.validate import validate

from .conftest import GOOD, WISHFUL

# In these recipes `§` stands for one line of `training:` (or of the section that the case names).
TRAINING = """\
task: sft
model: {name_or_path: some/model}
dataset:
  train:
    - path: data/train.jsonl
training:
  §
  seed: 42
"""


def problems_of(text: str, schema: Schema) -> list[Problem]:
    return validate(parse(text), schema)


def test_a_good_recipe_has_no_problems(schema: Schema) -> None:
    assert problems_of(GOOD, schema) == []
    assert problems_of(WISHFUL, schema) == []


@pytest.mark.parametrize(
    "line",
    [
        "learning_rate: 1",
        "report_to: none",
        "report_to: [wandb, tensorboard]",
        "report_to: null",
        "eval_strategy: no",
        "bf16: auto",
        "use_cpu: auto",
        "per_device_eval_batch_size: auto",
        "pad_to_multiple_of: auto",
        "activation_checkpointing: true",
        "gradient_checkpointing: false",
        "gradient_checkpointing_kwargs: {use_reentrant: false}",
        "max_steps: -1",
        "warmup_steps: 0",
        "save_total_limit: null",
        "ddp_backend: something_new",
        "lr_scheduler_kwargs: {any: thing}",
        "lr_scheduler_kwargs: '{\"any\": 1}'",
    ],
)
def test_what_the_libraries_take_is_no_problem(line: str, schema: Schema) -> None:
    assert problems_of(TRAINING.replace("§", line), schema) == []


@pytest.mark.parametrize(
    ("line", "code", "column", "words", "fixed"),
    [
        # unknown, renamed, removed
        ("lerning_rate: 1e-4", "RCP011", 3, "no field of SFTConfig (trl 1.16.0): did you mean `learning_rate`?", "learning_rate: 1e-4"),
        ("Learning-Rate: 1e-4", "RCP011", 3, "did you mean `learning_rate`?", "learning_rate: 1e-4"),
        ("zzz: 1", "RCP011", 3, "none is like it", None),
        ("max_seq_length: 512", "RCP012", 3, "is now `max_length`", "max_length: 512"),
        ("evaluation_strategy: steps", "RCP012", 3, "is now `eval_strategy`", "eval_strategy: steps"),
        ("warmup_ratio: 0.03  # a share", "RCP012", 3, "is now `warmup_steps`", "warmup_steps: 0.03  # a share"),
        ("per_gpu_train_batch_size: 4", "RCP012", 3, "is now `per_device_train_batch_size`", "per_device_train_batch_size: 4"),
        ("no_cuda: true", "RCP012", 3, "is now `use_cpu`", "use_cpu: true"),
        ("group_by_length: true", "RCP012", 3, "is now `train_sampling_strategy`", "train_sampling_strategy: group_by_length"),
        ("group_by_length: false", "RCP012", 3, "is now `train_sampling_strategy`", ""),
        ("overwrite_output_dir: true", "RCP012", 3, "every run has a directory of its own", ""),
        ("logging_dir: logs", "RCP012", 3, "the run directory holds the logs", ""),
        # another home
        ("pad_token: <pad>", "RCP013", 3, "section `tokenizer:`", "tokenizer:\n  pad_token: \"<pad>\"\n"),
        ("chat_template_path: c.jinja", "RCP013", 3, "`chat_template` in section `tokenizer:`", "tokenizer:\n  chat_template: c.jinja\n"),
        ("trust_remote_code: true", "RCP013", 3, "section `model:`", "model: {name_or_path: some/model, trust_remote_code: true}"),
        ("output_dir: out", "RCP013", 3, "section `output:`", "output:\n  runs: out\n"),
        ("model_init_kwargs: {dtype: auto}", "RCP013", 3, "section `model:`", None),
        ("fsdp: full_shard", "RCP013", 3, "section `launch:`", None),
        ("deepspeed: ds.json", "RCP013", 3, "section `launch:`", None),
        ("quantization_config: {}", "RCP013", 3, "section `quantization:`", None),
        ("tokenizer: x", "RCP013", 3, "section `tokenizer:`", None),
        ("lora_alpha: 32", "RCP013", 3, "belongs in section `peft:`", "peft:\n  lora_alpha: 32\n"),
        ("attn_implementation: sdpa", "RCP013", 3, "belongs in section `model:`", "some/model, attn_implementation: sdpa}"),
        ("beta: 0.1", "RCP011", 3, "is a field of DPOConfig (task dpo)", ""),
        # types
        ("learning_rate: 2e-4abc", "RCP015", 18, "must be a number, not 2e-4abc", "learning_rate: 2e-4\n"),
        ("learning_rate: '2e-4'", "RCP015", 18, "must be a number, not '2e-4'", "learning_rate: 2e-4\n"),
        ("learning_rate: [1e-4]", "RCP015", 18, "not the list", "learning_rate: 0.0001"),
        ("learning_rate: {a: 1}", "RCP015", 18, "not a mapping", None),
        ("learning_rate: fast", "RCP015", 18, "must be a number, not fast", None),
        ("learning_rate:", "RCP015", 3, "has no value", ""),
        ("per_device_train_batch_size: 4.0", "RCP015", 32, "a whole number", "per_device_train_batch_size: 4\n"),
        ("per_device_train_batch_size: 4.5", "RCP015", 32, "a whole number, not 4.5", None),
        ("max_steps: 1_000", "RCP015", 14, "a whole number", "max_steps: 1000"),
        ("packing: yes", "RCP015", 12, "true or false, not yes", "packing: true"),
        ("packing: 0", "RCP015", 12, "true or false, not 0", "packing: false"),
        ("packing: 'off'", "RCP015", 12, "true or false, not 'off'", "packing: false"),
        ("eval_strategy: false", "RCP015", 18, "one of no, steps, epoch", "eval_strategy: no"),
        ("run_name: 3", "RCP015", 13, "text or null", 'run_name: "3"'),
        ("save_total_limit: None", "RCP015", 21, "a whole number or null", "save_total_limit: null"),
        # choices
        ("optim: adamw_torch_fusd", "RCP016", 10, "did you mean `adamw_torch_fused`?", "optim: adamw_torch_fused"),
        ("lr_scheduler_type: 'Cosine'", "RCP016", 22, "did you mean `cosine`?", "lr_scheduler_type: cosine"),
        ("packing_strategy: tight", "RCP016", 21, "it has bfd, bfd_split, wrapped", None),
        ("ddp_backend: ncll", "RCP016", 16, "did you mean `nccl`?", "ddp_backend: nccl"),
        # ranges
        ("learning_rate: 0", "RCP017", 18, "more than 0 and at most 1, not 0", ""),
        ("learning_rate: 2", "RCP017", 18, "more than 0 and at most 1, not 2", ""),
        ("learning_rate: .nan", "RCP017", 18, "a finite number", ""),
        ("per_device_train_batch_size: -1", "RCP017", 32, "at least 1, not -1", ""),
        ("num_train_epochs: 0", "RCP017", 21, "more than 0", ""),
        ("max_steps: 0", "RCP017", 14, "at least 1, or -1", ""),
        ("max_length: 0", "RCP017", 15, "at least 1", ""),
        # auto, deprecated
        ("learning_rate: auto", "RCP022", 18, "cannot be `auto`", ""),
        ("use_liger_kernel: true", "RCP020", 3, "Deprecated: use something else", ""),
    ],
)  # fmt: skip
def test_one_mistake_one_problem_one_fix(line: str, code: str, column: int, words: str, fixed: str | None, schema: Schema) -> None:
    text = TRAINING.replace("§", line)
    (problem,) = problems_of(text, schema)
    assert (problem.code, problem.line, problem.column) == (code, 7, column)
    assert words in problem.message
    assert code in CODES
    if fixed is None:
        assert problem.fix is None
        return
    assert problem.fix is not None
    after = apply_fix(text, problem.fix)
    assert fixed in after
    assert problems_of(after, schema) == []
    if not fixed:
        assert after == TRAINING.replace("  §\n", "")


@pytest.mark.parametrize(
    ("text", "code", "line", "words"),
    [
        (GOOD.replace("task: sft\n", ""), "RCP010", 1, "`task:` is missing"),
        (GOOD.replace("  name_or_path: Hugg", "  # "), "RCP010", 4, "`name_or_path:` is missing in `model`"),
        (GOOD.replace("HuggingFaceTB/SmolLM2-135M-Instruct", "''"), "RCP010", 5, "`name_or_path` is empty"),
        (GOOD.replace("path: data/train.jsonl, ", ""), "RCP010", 15, "`path:` is missing in `dataset.train[0]`"),
        (GOOD.replace("task: sft", "task: sfft"), "RCP018", 3, "it has sft, dpo, and experimental ones"),
        (GOOD.replace("task: sft", "task: tpo"), "RCP019", 3, "may change or go"),
        (GOOD.replace("task: sft", "task: [sft]"), "RCP015", 3, "`task` must be text"),
        (GOOD.replace("name: gsm8k", "name: ../up"), "RCP024", 2, "names the run's folder"),
        (GOOD.replace("tokenizer:", "tokeniser:"), "RCP011", 11, "did you mean `tokenizer`?"),
        (GOOD.replace("  dtype:", "  torch_dtype:"), "RCP012", 6, "is now `dtype`"),
        (GOOD.replace("bfloat16", "bf16"), "RCP016", 6, "did you mean `bfloat16`?"),
        (GOOD.replace("r: 16", "r: 0"), "RCP017", 10, "`r` must be at least 1"),
        (GOOD.replace("r: 16", "lora_r: 16"), "RCP012", 10, "is now `r`"),
        (GOOD.replace("weight: 2", "weight: 0"), "RCP017", 15, "`weight` must be more than 0"),
        (GOOD.replace("weight: 2", "wieght: 2"), "RCP011", 15, "no key of a source in `dataset.train`"),
        (GOOD.replace("max_rows: 200", "max_rows: all"), "RCP015", 21, "a whole number"),
        (GOOD.replace("assistant: answer", "asistant: answer"), "RCP011", 15, "no column target: did you mean `assistant`?"),
        (GOOD.replace("user: question, ", ""), "RCP021", 15, "`assistant` needs a column for `user`"),
        (GOOD.replace(", assistant: answer", ""), "RCP021", 15, "`user` needs a column for `assistant`"),
        (GOOD.replace("messages: turns", "messages: turns\n        text: body"), "RCP021", 17, "do not go together"),
        (GOOD.replace("task: sft", "task: dpo"), "RCP021", 15, "task dpo needs columns for `chosen` and `rejected`"),
        (GOOD.replace("gpus: auto", "gpus: all"), "RCP016", 26, "is not a value of `gpus`"),
        (GOOD.replace("gpus: auto", "gpus: -1"), "RCP017", 26, "at least 0"),
        (WISHFUL.replace("oom: 2", "oom: often"), "RCP015", 28, "a whole number"),
        (GOOD.replace("runs: runs", "runs: 3"), "RCP015", 28, "text"),
        (GOOD.replace("tokenizer:", "tokenizer:\n  add_special_tokens: [<a>, <b>, <a>]"), "RCP026", 12, "'<a>' is named twice"),
        (GOOD.replace("tokenizer:", "tokenizer:\n  add_special_tokens: [' ']"), "RCP026", 12, "more than blanks"),
        (WISHFUL.replace('prompts: ["What is 2 + 2?"]', "prompts: What is 2 + 2?"), "RCP015", 27, "a list of texts"),
        (WISHFUL.replace("  prompts:", "  max_new_tokens: 0\n  prompts:"), "RCP017", 27, "at least 1"),
        (WISHFUL.replace("  prompts:", "  seconds: 0\n  prompts:"), "RCP017", 27, "more than 0"),
        (WISHFUL.replace("  prompts:", "  then: {stall: halt}\n  prompts:"), "RCP016", 27, "is not a value of `stall`"),
        (WISHFUL.replace("  prompts:", "  then: {nan: propose}\n  prompts:"), "RCP016", 27, "is not a value of `nan`"),
        (GOOD.replace("peft: {", "# {"), "RCP014", 7, "quantised weights cannot be trained"),
        (GOOD.replace("load_in_4bit: true", "load_in_4bit: true\n  load_in_8bit: true"), "RCP014", 9, "exclude each other"),
        (GOOD.replace("max_length: 2048", "bf16: true\n  fp16: true"), "RCP014", 26, "exclude each other"),
        (GOOD.replace("dtype: bfloat16", "adapter: a/b"), "RCP014", 6, "would add another"),
        (GOOD.replace("output:\n  runs: runs", "output:"), "RCP023", 27, "is empty"),
        (GOOD + "x: *nothing\n", "RCP001", 29, "not defined above"),
    ],
    ids=lambda value: "" if isinstance(value, str) and "\n" in value else None,
)  # fmt: skip
def test_what_is_wrong_in_the_other_sections(text: str, code: str, line: int, words: str, schema: Schema) -> None:
    found = [problem for problem in problems_of(text, schema) if problem.code != "RCP025"]  # not built: tested apart
    assert [(problem.code, problem.line) for problem in found][:1] == [(code, line)]
    assert any(words in problem.message for problem in found)


@pytest.mark.parametrize("word", ["cpu", "none", "0", "auto", "1"])
def test_a_recipe_may_keep_off_the_gpu(word: str, schema: Schema) -> None:
    assert problems_of(GOOD.replace("gpus: auto", f"gpus: {word}"), schema) == []


@pytest.mark.parametrize(
    ("line", "column", "severity", "words"),
    [
        ("launch: {strategy: fsdp}", 20, "error", "over several GPUs"),
        ("tokenizer: {chat_template: chatml}", 28, "error", "a Jinja file is meant"),
    ],
)
def test_what_this_version_does_not_do_is_said(line: str, column: int, severity: str, words: str, schema: Schema) -> None:
    (problem,) = problems_of(TRAINING.replace("  §\n", "") + line, schema)
    assert (problem.code, problem.line, problem.column, problem.severity) == ("RCP025", 8, column, severity)
    assert words in problem.message


def test_a_training_field_without_effect_and_a_task_that_nothing_trains_are_said(schema: Schema) -> None:
    (resumed,) = problems_of(TRAINING.replace("§", "resume_from_checkpoint: /nonexistent"), schema)
    assert (resumed.severity, "has no effect" in resumed.message) == ("warning", True)
    found = {problem.code: problem.severity for problem in problems_of(TRAINING.replace("sft", "tpo").replace("  §\n", ""), schema)}
    assert found == {"RCP019": "warning", "RCP025": "error"}


def test_two_names_for_one_field_are_a_contradiction(schema: Schema) -> None:
    text = TRAINING.replace("§", "activation_checkpointing: true\n  gradient_checkpointing: false")
    (problem,) = problems_of(text, schema)
    assert (problem.code, problem.line) == ("RCP014", 8)
    assert problem.fix is not None
    assert problems_of(apply_fix(text, problem.fix), schema) == []


def test_an_older_library_that_knows_only_the_old_name_takes_both(schema: Schema) -> None:
    old = replace(schema, training={name: spec for name, spec in schema.training.items() if "activation" not in name}, _merged={})
    for name in ("activation_checkpointing", "gradient_checkpointing"):
        assert problems_of(TRAINING.replace("§", f"{name}: true"), old) == []


def test_a_name_the_installed_library_still_has_is_not_called_removed(schema: Schema) -> None:
    older = {**schema.training, "group_by_length": schema.training["fp16"]}
    old = replace(schema, training=older, _merged={})
    assert problems_of(TRAINING.replace("§", "group_by_length: true"), old) == []


def test_a_rename_onto_a_key_that_is_there_takes_the_old_one_out(schema: Schema) -> None:
    text = TRAINING.replace("§", "max_seq_length: 512\n  max_length: 1024")
    (problem,) = problems_of(text, schema)
    assert problem.fix is not None
    assert apply_fix(text, problem.fix) == TRAINING.replace("§", "max_length: 1024")


def test_values_below_a_misspelt_section_are_judged_too(schema: Schema) -> None:
    text = TRAINING.replace("training:", "trainig:").replace("§", "learning_rat: fast")
    assert [(problem.code, problem.line) for problem in problems_of(text, schema)] == [("RCP011", 6), ("RCP011", 7), ("RCP015", 7)]


def test_sources_written_as_plain_words_become_mappings(schema: Schema) -> None:
    text = TRAINING.replace("    - path: data/train.jsonl\n", "    data/train.jsonl\n").replace("  §\n", "")
    (problem,) = problems_of(text, schema)
    assert problem.fix is not None
    assert "    [{path: data/train.jsonl}]\n" in apply_fix(text, problem.fix)
    text = TRAINING.replace("- path: data", "- data").replace("  §\n", "")
    (problem,) = problems_of(text, schema)
    assert problem.fix is not None
    assert "    - {path: data/train.jsonl}\n" in apply_fix(text, problem.fix)


@pytest.mark.parametrize("line", ["learning_rate:1e-4", "learning_rate:1e-4\n  max_length: 3", "max_length: 3\n  learning_rate:1e-4"])
def test_a_blank_missing_after_a_colon_is_put_in_by_a_fix(line: str, schema: Schema) -> None:
    for text in (TRAINING.replace("§", line), TRAINING.replace("§", line).replace("  seed: 42\n", "")):
        problem = problems_of(text, schema)[0]
        assert "a blank is missing after" in problem.message
        assert problem.fix is not None
        fixed = apply_fix(text, problem.fix)
        assert fixed == text.replace("rate:1e-4", "rate: 1e-4")
        assert problems_of(fixed, schema) == []


def test_nothing_is_called_missing_while_the_text_is_broken(schema: Schema) -> None:
    found = problems_of("task: sft\nmodel: {name_or_path: x\n", schema)
    assert [problem.code for problem in found] == ["RCP001"]


def test_a_value_that_runs_into_the_next_line_is_said_and_not_cut(schema: Schema) -> None:
    text = TRAINING.replace("§", "max_length: 512\n    packing true")
    (problem,) = problems_of(text, schema)
    assert "it goes on in the line below" in problem.message
    assert problem.fix is None


def test_values_behind_an_alias_are_judged_but_not_rewritten(schema: Schema) -> None:
    text = TRAINING.replace("§", "<<: *shared").replace(
        "name_or_path: some/model", "name_or_path: some/model, <<: &shared {max_length: no}"
    )
    found = problems_of(text, schema)
    behind = [problem for problem in found if problem.line == 7]
    assert [problem.code for problem in behind] == ["RCP015"]
    assert behind[0].fix is None


def test_messages_never_carry_terminal_escapes(schema: Schema) -> None:
    hostile = '"\\e[31m\\u202ered"'
    text = f"task: {hostile}\n{hostile}: 1\nmodel: {{name_or_path: a, dtype: {hostile}, {hostile}: 2}}\ndataset: {{train: [{hostile}]}}\n"
    found = problems_of(text, schema)
    assert len(found) >= 5
    for problem in found:
        assert problem.message.isprintable()
        assert problem.fix is None or problem.fix.title.isprintable()


def test_every_column_target_is_one_that_the_rows_are_made_of() -> None:
    code = Path(columns.__file__).read_text()
    for target in OWN["dataset", "train", "*", "columns"]:
        assert f'"{target}"' in code, target
