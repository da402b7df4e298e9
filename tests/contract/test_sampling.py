"""Answers during training: what the model and its base say, told in the journal; training goes on as if nobody had asked."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.contract.test_control import PAIR_COLUMNS, PAIRS, build, recipe
from tests.support.tiny_model import write_rows
from tuitune.errors import UserError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PROMPTS = ["the cat", "one two three four the dog ran to the sea", "the old town"]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    write_rows(tmp_path / "train.jsonl")
    return tmp_path


class Ask(transformers.TrainerCallback):  # type: ignore[misc]
    """Asks model and base at the end of these steps, where a run's boundary is."""

    def __init__(self, trainer: Any, steps: tuple[int, ...]) -> None:
        self.trainer, self.steps, self.answers = trainer, steps, []
        self.before: list[Any] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        from tuitune.trainer.sampling import sample, why_no_base

        if state.global_step not in self.steps:
            return
        model = self.trainer.model
        look = lambda: (  # noqa: E731
            [module.training for module in model.modules()],
            [weight.requires_grad for weight in model.parameters()],
            model.config.use_cache,
            self.trainer.processing_class.padding_side,
            model.generation_config.to_dict(),
        )
        before = look()
        self.answers += sample(self.trainer, PROMPTS, 12, conversational=True)
        if why_no_base(self.trainer) is None:
            self.answers += sample(self.trainer, PROMPTS, 12, base=True, conversational=True)
        assert look() == before


def train(folder: Path, text: str, *steps: int) -> tuple[list[dict[str, Any]], dict[str, Any], list[Any]]:
    """(what each step logged, the weights at the end, the answers)."""
    torch.set_num_threads(1)
    trainer = build(folder, text + "launch: {gpus: cpu}\n")[0].trainer
    ask = Ask(trainer, steps)
    trainer.add_callback(ask)
    trainer.train()
    logs = [log for log in trainer.state.log_history if "loss" in log]
    return logs, {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}, ask.answers


@pytest.mark.parametrize("task", ["sft", "dpo", "full", "checkpointing"])
def test_losses_and_weights_are_to_the_bit_those_of_a_run_without_samples(tiny_model: Path, workspace: Path, task: str) -> None:
    """With dropout, in the middle of a run: after the first step, and twice more."""
    if task == "dpo":
        (workspace / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    more = ", activation_checkpointing: true" if task == "checkpointing" else ""
    columns = PAIR_COLUMNS if task == "dpo" else "{user: question, assistant: answer}"
    text = recipe(tiny_model, "dpo" if task == "dpo" else "sft", columns, training=", gradient_accumulation_steps: 2" + more)
    if task == "full":
        text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("peft:"))
    plain, sampled = train(workspace, text), train(workspace, text, 1, 3, 4)
    assert sampled[0] == plain[0]
    assert len(plain[0]) == 6
    assert all(torch.equal(weight, sampled[1][name]) for name, weight in plain[1].items())
    assert len(sampled[2]) == (9 if task == "full" else 18)


@pytest.fixture
def trainer(tiny_model: Path, workspace: Path) -> Any:
    return build(workspace, recipe(tiny_model) + "launch: {gpus: cpu}\n")[0].trainer


def alone(trainer: Any, ids: list[int], new: int, model: Any) -> str:
    """The greedy answer, token by token without cache, padding or generate()."""
    tokenizer, model = trainer.processing_class, model.eval()
    said: list[int] = []
    with torch.no_grad():
        for _ in range(new):
            said.append(int(model(torch.tensor([ids + said])).logits[0, -1].argmax()))
            if said[-1] == tokenizer.eos_token_id:
                said.pop()
                break
    return str(tokenizer.decode(said))


def lively(trainer: Any) -> None:
    """A fresh adapter changes nothing, and a random model stays at one token: both are shaken, so that answers differ."""
    torch.manual_seed(5)
    for name, weight in trainer.model.named_parameters():
        if "lora_B" in name or "layernorm" in name:
            weight.data = torch.randn_like(weight) * (0.3 if "lora_B" in name else 4)


def test_a_batch_of_prompts_is_answered_as_each_one_alone(trainer: Any) -> None:
    """Padded on the left, asked through the chat template."""
    from tuitune.trainer.sampling import sample

    lively(trainer)
    tokenizer = trainer.processing_class
    turns = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    rendered = [tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=True)["input_ids"] for turn in turns]
    answers = sample(trainer, PROMPTS, 8, conversational=True)
    assert [answer.text for answer in answers] == [alone(trainer, ids, 8, trainer.model) for ids in rendered]
    assert [answer.prompt for answer in answers] == PROMPTS
    base = sample(trainer, PROMPTS, 8, base=True, conversational=True)
    with trainer.model.disable_adapter():
        assert [answer.text for answer in base] == [alone(trainer, ids, 8, trainer.model) for ids in rendered]
    assert [answer.text for answer in base] != [answer.text for answer in answers]
    raw = sample(trainer, PROMPTS, 8)
    assert [answer.text for answer in raw] == [alone(trainer, tokenizer(prompt)["input_ids"], 8, trainer.model) for prompt in PROMPTS]


def says(trainer: Any, monkeypatch: pytest.MonkeyPatch, *answers: list[int]) -> None:
    """The model's next answers, token by token."""

    def generate(input_ids: Any, **kwargs: Any) -> Any:
        width = max(map(len, answers))
        rows = [answer + [kwargs["generation_config"].pad_token_id] * (width - len(answer)) for answer in answers]
        return torch.cat([input_ids, torch.tensor(rows)], dim=1)

    monkeypatch.setattr(trainer.model, "generate", generate)


def test_an_answer_says_how_it_ended_and_how_much_it_repeats(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tuitune.trainer.sampling import sample

    stop = trainer.processing_class.eos_token_id
    says(trainer, monkeypatch, [50, 51, 52, stop], [60, 61, 60, 61, 60, 61, 60, 61, 60, 61])
    one, other = sample(trainer, PROMPTS[:2], 10)
    assert (one.ended, one.stopped, one.tokens, one.repetition) == ("stop token", True, 4, 0.0)
    assert "<|im_end|>" not in one.text
    assert (other.ended, other.stopped, other.tokens) == ("length", False, 10)
    assert other.repetition == pytest.approx(5 / 7), "7 groups of four, two of them different"


def test_special_tokens_within_an_answer_stay_visible(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that goes on with the next turn: the classic fault must be seen."""
    from tuitune.trainer.sampling import sample

    says(trainer, monkeypatch, [50, trainer.processing_class.convert_tokens_to_ids("<|im_start|>"), 51])
    assert "<|im_start|>" in sample(trainer, PROMPTS[:1], 3)[0].text


def test_an_answer_that_never_ends_is_cut_at_the_time_limit(trainer: Any) -> None:
    from tuitune.trainer.sampling import sample

    answers = sample(trainer, PROMPTS[:2], 100, seconds=0)
    assert [(answer.ended, answer.tokens) for answer in answers] == [("time", 1), ("time", 1)]


def test_settings_of_the_model_do_not_change_the_choice(trainer: Any) -> None:
    """Many models come with sampling and a penalty for repetition in generation_config.json."""
    from tuitune.trainer.sampling import sample

    lively(trainer)
    plain = [answer.text for answer in sample(trainer, PROMPTS, 8)]
    settings = trainer.model.generation_config
    settings.do_sample, settings.temperature, settings.repetition_penalty, settings.max_length = True, 5.0, 3.0, 5
    assert [answer.text for answer in sample(trainer, PROMPTS, 8)] == plain


def test_memory_that_runs_out_over_many_answers_makes_fewer_at_once(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tuitune.trainer import sampling

    plain, sizes = trainer.model.generate, []

    def narrow(input_ids: Any, **kwargs: Any) -> Any:
        sizes.append(len(input_ids))
        if len(input_ids) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(input_ids=input_ids, **kwargs)

    monkeypatch.setattr(trainer.model, "generate", narrow)
    room, trainer.args.per_device_eval_batch_size = 1, 4
    assert [answer.prompt for answer in sampling.sample(trainer, PROMPTS, 4)] == PROMPTS
    assert sizes == [3, 1, 2, 1, 1]
    room = 0
    with pytest.raises(UserError, match="memory ran out over one answer"):
        sampling.sample(trainer, PROMPTS, 4)


def test_what_cannot_be_asked_is_a_sentence(trainer: Any, tiny_model: Path, workspace: Path) -> None:
    from tuitune.trainer.sampling import sample

    with pytest.raises(UserError, match=r"leaves no room for an answer: the model takes 256"):
        sample(trainer, ["the cat " * 300], 4)
    trainer.processing_class.chat_template = "{{ raise_exception('two turns only') }}"
    with pytest.raises(UserError, match="two turns only"):
        sample(trainer, PROMPTS, 4, conversational=True)
    (workspace / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    judge = build(workspace, recipe(tiny_model, "reward", PAIR_COLUMNS) + "launch: {gpus: cpu}\n")[0].trainer
    with pytest.raises(UserError, match="a reward model judges"):
        sample(judge, PROMPTS, 4)
    full = "".join(line for line in recipe(tiny_model).splitlines(keepends=True) if not line.startswith("peft:"))
    write_rows(workspace / "train.jsonl")
    whole = build(workspace, full + "launch: {gpus: cpu}\n")[0].trainer
    with pytest.raises(UserError, match="full fine-tuning keeps no base model"):
        sample(whole, PROMPTS, 4, base=True)


class TestRounds:
    """The recipe's prompts every so many steps."""

    def rounds(self, folder: Path, **watch: Any) -> tuple[Any, list[dict[str, Any]]]:
        from tuitune.trainer.sample_rounds import SampleRounds

        told: list[dict[str, Any]] = []
        return SampleRounds.of(watch, lambda ev, **fields: told.append(fields), folder, conversational=True), told

    def test_they_are_due_every_so_many_steps_when_there_are_prompts(self, tmp_path: Path) -> None:
        rounds, _ = self.rounds(tmp_path, prompts=["a"], every=5)
        assert [step for step in range(1, 21) if rounds.due(step)] == [5, 10, 15, 20]
        assert not self.rounds(tmp_path)[0].due(50)
        assert self.rounds(tmp_path, prompts=["a"])[0].due(50)

    def test_the_base_models_answer_comes_once_a_prompt(self, trainer: Any, tmp_path: Path) -> None:
        rounds, told = self.rounds(tmp_path, prompts=PROMPTS[:2], max_new_tokens=6)
        assert rounds.ask(trainer, 5) == 2
        rounds.ask(trainer, 10)
        assert rounds.ask(trainer, 12, [PROMPTS[0], "the sea"], 3) == 2
        assert [(one["step"], one["prompt"], one["base"] is not None) for one in told] == [
            (5, PROMPTS[0], True),
            (5, PROMPTS[1], True),
            (10, PROMPTS[0], False),
            (10, PROMPTS[1], False),
            (12, PROMPTS[0], False),
            (12, "the sea", True),
        ]
        assert told[0]["prompt_id"] == told[2]["prompt_id"] == told[4]["prompt_id"] != told[1]["prompt_id"]
        assert told[0]["params"] == {"do_sample": False, "max_new_tokens": 6}
        assert told[5]["params"]["max_new_tokens"] == 3
        assert all(one["tok_s"] > 0 and one["base_why"] is None and one["file"] is None for one in told)

    def test_a_text_that_is_too_long_for_a_record_lies_beside_it(
        self, trainer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Three texts of control characters, the longest way to write anything, fit into the journal's record."""
        from tuitune.bus.envelope import encode
        from tuitune.bus.journal import MAX_RECORD

        escape = trainer.processing_class("\x1b")["input_ids"][-1:]
        says(trainer, monkeypatch, escape * 20_000)
        rounds, told = self.rounds(tmp_path)
        monkeypatch.setattr("tuitune.trainer.sampling._prompt_ids", lambda *_: [50, 51])
        rounds.ask(trainer, 7, ["\x1b" * 9000])
        (one,) = told
        assert len(encode(one)) < MAX_RECORD - 1024
        assert (tmp_path / one["file"]).read_text() == "\x1b" * 20_000
        assert one["file"] == f"7-{one['prompt_id']}.txt"
        assert 0 < len(one["text"]) < 20_000
        assert (tmp_path / one["file"].replace(".txt", "-base.txt")).exists()
        assert (tmp_path / one["file"]).stat().st_mode & 0o077 == 0
