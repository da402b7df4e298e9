"""The chat job with real tiny models: what two sides of one model say, how answers end, what is asked of a model and what it refuses."""

from collections import deque
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.tiny_model import make_tiny_model
from tuitune.after.chat import Chat
from tuitune.after.chat_model import Side, prompt_ids
from tuitune.after.chat_state import ChatState, reduce
from tuitune.trainer.stop import StopRequest

GREEDY = {"temperature": 0, "max_new_tokens": 8}


def rendered(tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=True)["input_ids"]
    return ids


class ScriptedJob:
    """A job without hub and journal: takes what a test has put into `coming` while it answers, and keeps what it tells."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []
        self.coming: deque[dict[str, Any]] = deque()
        self.stop = StopRequest()

    def emit(self, ev: str, /, **fields: Any) -> None:
        self.told.append({"ev": ev, **fields})

    def answer(self, command: dict[str, Any], error: str | None = None, **told: Any) -> None:
        self.answers.append({"op": command["op"], "error": error, **told})

    def commands(self) -> list[dict[str, Any]]:
        return [self.coming.popleft() for _ in range(len(self.coming))]


class Talk:
    """A chat of one adapter beside its base, asked as the hub would."""

    def __init__(self, sides: list[Side]) -> None:
        self.job = ScriptedJob()
        self.chat = Chat(self.job, sides, "")  # type: ignore[arg-type]
        self.chat.params = self.chat.params.with_values(GREEDY)

    def do(self, op: str, **args: Any) -> dict[str, Any]:
        """Its answer."""
        self.chat.take({"op": op, "args": args})
        return next(one for one in reversed(self.job.answers) if one["op"] == op)

    def texts(self) -> dict[str, str]:
        """What was said in the newest turn, as its viewers have it."""
        return {key: spoken.text for key, spoken in self.state.turns[-1].answers.items()}

    @property
    def state(self) -> ChatState:
        state = ChatState()
        for record in self.job.told:
            reduce(state, record)
        return state

    def said(self, side: str = "left") -> dict[str, Any]:
        """How the side's newest answer ended."""
        return next(record for record in reversed(self.job.told) if record["ev"] == "said" and record["side"] == side)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A model with an adapter that changes it, and its tokenizer."""
    import peft
    import transformers

    torch.set_num_threads(1)
    folder = make_tiny_model(tmp_path_factory.mktemp("chat") / "m")
    torch.manual_seed(1)
    config = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    model = peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(folder), config)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data *= 6
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture
def talk(adapted: tuple[Any, Any]) -> Talk:
    model, tokenizer = adapted
    return Talk([Side("left", "the adapter", model, tokenizer), Side("right", "its base", model, tokenizer, adapted=False)])


def test_one_model_answers_with_and_without_its_adapter(talk: Talk, adapted: tuple[Any, Any]) -> None:
    assert talk.do("ask", text="the cat sat")["turn"] == 1
    model, tokenizer = adapted
    prompt = torch.tensor([talk.chat.turns[0].prompts["left"]])
    greedy = {"do_sample": False, "max_new_tokens": 8, "attention_mask": torch.ones_like(prompt)}
    with_it = model.generate(input_ids=prompt, **greedy)[0, prompt.shape[1] :]
    with model.disable_adapter():
        without = model.generate(input_ids=prompt, **greedy)[0, prompt.shape[1] :]
    texts = talk.texts()
    assert texts["left"] == talk.chat.turns[0].answers["left"].text, "the pieces are the whole answer"
    assert (texts["left"], texts["right"]) == (tokenizer.decode(with_it), tokenizer.decode(without))
    assert texts["left"] != texts["right"]
    assert talk.said()["ended"] == "length"
    assert talk.said()["tokens"] == 8


def test_the_same_seed_draws_the_same_answer_and_another_one_another(talk: Talk) -> None:
    warm = {"temperature": 1.0, "seed": 5}
    talk.do("ask", text="the cat", params=warm)
    first = talk.texts()
    talk.do("reset")
    talk.do("ask", text="the cat", params=warm)
    assert talk.texts() == first
    talk.do("regenerate")
    assert talk.texts() != first, "the last question again means another answer, whatever the chat's seed is"
    assert len(talk.state.turns) == 1
    talk.do("regenerate", params={"seed": 5})
    assert talk.texts() == first


def test_each_side_goes_on_with_what_it_has_said_itself(talk: Talk, adapted: tuple[Any, Any]) -> None:
    talk.do("ask", text="one", system="two three")
    talk.do("ask", text="four")
    tokenizer, (first, second) = adapted[1], talk.chat.turns
    for key in ("left", "right"):
        heard = [{"role": "system", "content": "two three"}, {"role": "user", "content": "one"}]
        heard += [{"role": "assistant", "content": first.answers[key].text}, {"role": "user", "content": "four"}]
        assert second.prompts[key] == rendered(tokenizer, heard)


def test_messages_are_a_conversation_of_their_own(talk: Talk, adapted: tuple[Any, Any]) -> None:
    talk.do("ask", text="one")
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    talk.do("ask", messages=turns)
    assert talk.chat.turns[-1].prompts["left"] == rendered(adapted[1], turns)
    assert len(talk.chat.turns) == 1


def test_a_stop_token_ends_an_answer_and_is_no_part_of_its_text(talk: Talk, adapted: tuple[Any, Any]) -> None:
    model, tokenizer = adapted
    talk.do("ask", text="the cat sat")
    ids = talk.chat.turns[0].answers["left"].ids
    before, model.generation_config.eos_token_id = model.generation_config.eos_token_id, [2, ids[3]]
    try:
        place = ids.index(ids[3])
        talk.do("regenerate")
        found = talk.chat.turns[0].answers["left"]
        assert (found.ended, found.ids, found.tokens) == ("stop token", ids[:place], place + 1)
        assert talk.texts()["left"] == tokenizer.decode(ids[:place])
    finally:
        model.generation_config.eos_token_id = before


def test_an_answer_is_interrupted_and_the_other_side_is_not_asked(talk: Talk) -> None:
    talk.job.coming.extend([{"op": "ask", "args": {"text": "me too"}}, {"op": "interrupt", "args": {}}])
    talk.do("ask", text="the cat", params={"max_new_tokens": 200})
    assert talk.said()["ended"] == "interrupted"
    assert talk.said()["tokens"] < 200
    assert "right" not in talk.texts()
    assert not talk.state.busy
    assert {"op": "ask", "error": "it is answering: interrupt that first"} in talk.job.answers


def test_the_probabilities_are_the_model_s_own(talk: Talk) -> None:
    talk.do("ask", text="the cat sat", params={"max_new_tokens": 70})
    talk.do("probabilities", top=3)
    for key, spoken in talk.state.turns[-1].answers.items():
        assert spoken.complete
        assert len(spoken.probabilities) == len(talk.chat.turns[-1].answers[key].ids)
        for token in spoken.probabilities:
            assert token.p == pytest.approx(token.top[0][1]), "the likeliest token was taken each time (temperature 0)"
            assert [p for _, p in token.top] == sorted((p for _, p in token.top), reverse=True)
            assert sum(p for _, p in token.top) <= 1 + 1e-6


@pytest.mark.parametrize(
    ("op", "args", "words"),
    [
        ("ask", {"text": " "}, "ask takes `text`"),
        ("ask", {"messages": [{"role": "assistant", "content": "x"}]}, "that ends with a user's"),
        ("ask", {"text": "x", "sides": ["middle"]}, "sides is a list of left, right"),
        ("ask", {"text": "x", "params": {"top_p": 4}}, "top_p is a number above 0 to 1"),
        ("ask", {"text": "x", "params": [1]}, "params is a table"),
        ("ask", {"text": "the " * 300}, "this model takes 256 with the answer: begin anew"),
        ("regenerate", {}, "no turn yet"),
        ("probabilities", {"turn": 7}, "no such turn"),
        ("interrupt", {}, "nothing is being answered"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence_and_changes_nothing(talk: Talk, op: str, args: dict[str, Any], words: str) -> None:
    assert words in str(talk.do(op, **args)["error"])
    assert (talk.chat.turns, talk.job.told) == ([], [])


def test_a_question_that_no_record_can_hold_is_refused_and_not_waited_for(talk: Talk) -> None:
    assert "shorten them" in talk.do("ask", text="x" * 70_000)["error"]
    assert "turn" not in {record["ev"] for record in talk.job.told}


def test_what_the_template_refuses_is_told_in_its_words(adapted: tuple[Any, Any]) -> None:
    import copy

    model, tokenizer = adapted
    strict = copy.deepcopy(tokenizer)
    refusal = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn here') }}{% endif %}"
    strict.chat_template = refusal + strict.chat_template
    talk = Talk([Side("left", "strict", model, strict)])
    assert "strict: this conversation cannot be asked: the chat template fails" in str(talk.do("ask", text="x", system="y")["error"])
    assert "no system turn here" in str(talk.job.answers[-1]["error"])
    assert talk.do("ask", text="x")["error"] is None


def test_a_model_without_a_template_goes_on_with_the_text(adapted: tuple[Any, Any], tmp_path: Path) -> None:
    import copy

    model, tokenizer = adapted
    plain = copy.deepcopy(tokenizer)
    plain.chat_template = None
    ids = prompt_ids(Side("left", "plain", model, plain), [{"role": "user", "content": "the cat sat"}])
    assert plain.decode(ids) == "the cat sat"
