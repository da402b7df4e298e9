"""The schema that is exported from the installed trl, transformers and peft is what those libraries really take.

One export for the whole file (8 s, most of it importing torch); what can be read from the libraries' source text is read there.
"""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tuitune.recipe.aliases import HOMES, RENAMED, TWINS
from tuitune.recipe.document import parse
from tuitune.recipe.recipe import canonical_training, load_recipe
from tuitune.recipe.report import validate_file
from tuitune.recipe.schema import Schema, from_json
from tuitune.recipe.sections import COMMON
from tuitune.recipe.validate import validate
from tuitune.recipe.values import RANGES, fits, out_of_choices

pytestmark = pytest.mark.xdist_group("schema export")

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
HEAVY = ["flock", "/tmp/tuitune-tests.heavy.lock", sys.executable]  # one torch import at a time: the machine has two cores
KINDS = {"bool", "int", "float", "str", "null", "dict", "any", "list", "list[str]", "list[int]", "list[float]", "list[dict]"}


def source(library: str, path: str) -> str:
    """The text of a module of an installed library, without importing it."""
    spec = find_spec(library)
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / path).read_text()


@pytest.fixture(scope="session")
def schema() -> Schema:
    done = subprocess.run([*HEAVY, "-m", "tuitune.analyst.export_schema"], capture_output=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return from_json(json.loads(done.stdout))


def test_the_stable_tasks_are_those_that_trl_exports_and_the_others_say_so(schema: Schema) -> None:
    stable = [name for name, task in schema.tasks.items() if not task.experimental]
    assert stable[:5] == ["sft", "dpo", "kto", "reward", "grpo"]
    exported = re.findall(r'"(\w+)Trainer"', source("trl", "__init__.py"))
    assert {schema.tasks[name].config for name in stable} <= {f"{name}Config" for name in exported}
    assert schema.tasks["orpo"].experimental
    assert schema.tasks["online_dpo"].config == "OnlineDPOConfig"


def test_every_field_has_a_known_type_and_documentation(schema: Schema) -> None:
    tables = [schema.peft, schema.quantization, *(schema.training_fields(task) for task in schema.tasks)]
    for table in tables:
        for name, spec in table.items():
            assert set(spec.types) <= KINDS, name
            assert spec.doc, name
            assert "any" not in spec.types, name


def test_every_default_passes_the_field_s_own_check(schema: Schema) -> None:
    for task in schema.tasks:
        for name, spec in schema.training_fields(task).items():
            assert fits(spec.default, spec), (task, name, spec.type, spec.default)
            assert not out_of_choices(spec.default, spec), (task, name, spec.choices, spec.default)
    for name, spec in {**schema.peft, **schema.quantization}.items():
        assert fits(spec.default, spec) or spec.default == {}, (name, spec.type, spec.default)


@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("optim", {"adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "adafactor", "sgd"}),
        ("lr_scheduler_type", {"linear", "cosine", "constant_with_warmup", "warmup_stable_decay"}),
        ("eval_strategy", {"no", "steps", "epoch"}),
        ("save_strategy", {"no", "steps", "epoch", "best"}),
        ("train_sampling_strategy", {"random", "sequential", "group_by_length"}),
        ("packing_strategy", {"bfd", "bfd_split", "wrapped"}),
        ("loss_type", {"nll", "dft"}),
    ],
)
def test_choices_are_closed_and_complete(name: str, some: set[str], schema: Schema) -> None:
    spec = schema.training_fields("sft")[name]
    assert some <= set(spec.choices)
    assert not spec.open_choices


@pytest.mark.parametrize("task", ["sft", "dpo", "kto", "grpo", "sdpo", "tpo", "online_dpo"])
def test_the_losses_found_in_the_documentation_are_those_of_the_trainer_s_source(task: str, schema: Schema) -> None:
    folder = f"experimental/{task}" if schema.tasks[task].experimental else "trainer"
    code = source("trl", f"{folder}/{task}_trainer.py") + source("trl", f"{folder}/{task}_config.py")
    spec = schema.training_fields(task)["loss_type"]
    assert all(re.search(rf"""["'`]{re.escape(word)}["'`]""", code) for word in spec.choices)
    compared = re.findall(r"loss_type (?:==|!=) \"([\w-]+)\"", code)
    compared += re.findall(r'"([\w-]+)"', "".join(re.findall(r"loss_type (?:not )?in [\[({]([^\])}]*)[\])}]", code)))
    assert set(compared) <= set(spec.choices)


def test_the_packing_strategies_are_those_of_the_packing_code(schema: Schema) -> None:
    code = source("trl", "data_utils.py")
    assert set(re.findall(r'strategy == "(\w+)"', code)) <= set(schema.training_fields("sft")["packing_strategy"].choices)


def test_the_sampling_strategies_are_those_that_the_trainer_knows(schema: Schema) -> None:
    code = source("transformers", "trainer.py") + source("transformers", "training_args.py")
    for word in schema.training_fields("sft")["train_sampling_strategy"].choices:
        assert f'"{word}"' in code, word


def test_our_own_tables_name_real_fields(schema: Schema) -> None:
    known = {name for task in schema.tasks for name in schema.training_fields(task)}
    assert {name for section, name in RANGES if section == "training"} <= known
    assert {name for section, name in RANGES if section == "peft"} <= set(schema.peft)
    assert set(COMMON) <= known | set(schema.peft) | set(schema.quantization)
    for section, table in RENAMED.items():
        fields = known if section == "training" else set(schema.fields((section,) if section else ()) or ())
        for old, renamed in table.items():
            assert renamed.new is None or renamed.new in fields, (section, old)


def test_removed_names_are_really_gone(schema: Schema) -> None:
    for old in (
        "max_seq_length",
        "evaluation_strategy",
        "warmup_ratio",
        "group_by_length",
        "overwrite_output_dir",
        "logging_dir",
        "no_cuda",
    ):
        assert old not in schema.training_fields("sft")
        (problem,) = [
            problem
            for problem in validate(
                parse(f"task: sft\nmodel: {{name_or_path: m}}\ndataset: {{train: [{{path: x}}]}}\ntraining: {{{old}: 1}}"), schema
            )
            if problem.code == "RCP012"
        ]
        assert problem.line == 4


def test_every_value_with_another_home_is_one_that_a_trainer_would_take(schema: Schema) -> None:
    taken = {name for fields in schema.tasks_training.values() for name in fields} | set(schema.training)
    in_signatures = {"tokenizer", "processing_class", "tokenizer_name", "peft_config", "quantization_config"}
    assert set(HOMES) - in_signatures <= taken
    assert not set(HOMES) & set(schema.training_fields("sft"))


def test_checkpointing_goes_by_its_newest_name_with_trl_s_default(schema: Schema) -> None:
    for newest, older in TWINS:
        assert newest in schema.training_fields("sft")
        assert older not in schema.training_fields("sft")
        assert older in schema.training or newest in schema.training
    assert schema.training_fields("sft")["activation_checkpointing"].default is True


def test_deprecated_options_carry_the_library_s_words(schema: Schema) -> None:
    assert "will be removed" in (schema.training_fields("sft")["use_liger_kernel"].deprecated or "")
    assert schema.training_fields("sft")["learning_rate"].deprecated is None


def test_documentation_reads_without_markup(schema: Schema) -> None:
    doc = schema.training_fields("sft")["packing_strategy"].doc
    assert doc.startswith("Strategy for packing sequences.")
    for spec in schema.training_fields("sft").values():
        assert "[`" not in spec.doc
        assert "<Tip" not in spec.doc


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_shipped_recipes_have_no_problem_and_say_how_to_launch(file: Path, schema: Schema) -> None:
    assert {problem.code for problem in validate_file(file, schema)} <= {"RCP019"}, "it may say that TRL calls the task experimental"
    comment = file.read_text().split("\n\n")[0]
    assert all(line.startswith("#") for line in comment.splitlines())
    for word in ("# Card: ", "# Memory: ", "# Launch: "):
        assert f"\n{word}" in comment
    assert f"tuitune train {file.name}" in comment


_BUILD = """
import json, sys
from peft import LoraConfig
from transformers import BitsAndBytesConfig
from tuitune.trainer.methods import method_for
for name, (task, training, peft, quantization) in json.load(sys.stdin).items():
    built = method_for(task).config(**{**training, "output_dir": "/tmp/unused", "use_cpu": True})
    for key, value in training.items():
        now = getattr(built, key)
        assert getattr(now, "value", now) in (value, [value]), (name, key, now)
    LoraConfig(**(peft or {}), task_type="CAUSAL_LM")
    BitsAndBytesConfig(**(quantization or {}))
print("built")
"""


def test_the_real_config_classes_take_what_validates(schema: Schema) -> None:
    wanted = {}
    for file in RECIPES:
        recipe = load_recipe(file, schema=schema)
        installed = {**schema.training, **schema.tasks_training[recipe.task]}
        arguments = canonical_training(recipe, installed)
        wanted[file.stem] = (recipe.task, arguments, recipe.peft, recipe.quantization)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*HEAVY, "-W", "ignore", "-c", _BUILD],
        input=json.dumps(wanted).encode(),
        capture_output=True,
        timeout=150,
        check=False,
        env=environment,
    )
    assert done.stdout.decode().strip().endswith("built"), done.stderr.decode()[-2000:]
