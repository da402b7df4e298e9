"""`tuitune chat` with somebody who types, over a chat job without a model; and what comes through a pipe."""

import builtins
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.living_job import LivingJob, living_job
from tuitune.after.chat_params import Params
from tuitune.after.chat_session import ChatSession
from tuitune.after.chat_terminal import answer_all, converse
from tuitune.errors import UserError


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivingJob]:
    root = tmp_path_factory.mktemp("chat")
    with living_job(root, {"sides": [{}, {}]}, kind="chat", module="tests.support.stand_in_chat") as one:
        yield one


@pytest.fixture
def session(job: LivingJob) -> ChatSession:
    found = ChatSession(job.run)
    found.wait_ready()
    return found


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str | type[BaseException]) -> None:
    """What somebody types, one line after another; then Ctrl-D."""
    left = iter([*lines, EOFError])

    def answer(prompt: str = "") -> str:
        line = next(left)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr(builtins, "input", answer)


def test_a_conversation_by_hand(
    session: ChatSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "the cat",
        KeyboardInterrupt,
        "/set temperature=0 seed=4",
        "/again",
        "/probs",
        "/save right rows.jsonl",
        "/nope",
        "/set heat=1",
        "refuse",
    ]
    typed(monkeypatch, *words, "/reset", "/quit")
    converse(session, Params(), tmp_path)
    out, err = capsys.readouterr()
    assert out.count("── model left\nleft the cat \n") == 2
    assert out.count("── model right\nright the cat \n") == 2
    assert "50.0%  cat              ␛[31mdog 25%" in out, "what it might have said is shown, not obeyed"
    assert "model left: float32 on cpu" in err
    assert "3 tokens, 50 tok/s, ended by itself, seed 11" in err
    assert "temperature=0 top_p=0.95 top_k=50 max_new_tokens=512 repetition_penalty=1 seed=4" in err
    assert f"{tmp_path}/rows.jsonl has 1 row now" in err
    assert "/nope is unknown; /help lists what there is" in err
    assert "'heat' is no sampling parameter" in err
    assert "the template refuses this" in err
    assert "a new conversation" in err
    assert json.loads((tmp_path / "rows.jsonl").read_text())["messages"][-1] == {"role": "assistant", "content": "right the cat "}
    assert session.state.turns == []


def test_ctrl_c_interrupts_the_answer_and_the_chat_goes_on(
    session: ChatSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def impatient(*words: str, **options: object) -> None:
        if "left " in words and not said:
            said.append("left ")
            raise KeyboardInterrupt

    monkeypatch.setattr(builtins, "print", impatient)
    typed(monkeypatch, "a long story", "the dog")
    converse(session, Params(), tmp_path)
    assert session.state.turns[-2].answers["left"].ended == "interrupted"
    assert session.state.turns[-1].answers["right"].text == "right the dog "


def test_through_a_pipe_each_question_is_its_own(session: ChatSession, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer_all(session, Params(), iter(["one", "two"]), as_json=False) == 0
    out = capsys.readouterr().out
    assert out == "── model left\nleft one \n── model right\nright one \n\n── model left\nleft two \n── model right\nright two \n"
    assert answer_all(session, Params(seed=5), iter(["one"]), as_json=True) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["turns"][0]["seed"] == 5
    assert [answer["text"] for answer in document["turns"][0]["answers"]] == ["left one ", "right one "]


def test_a_job_that_ends_meanwhile_is_told(tmp_path: Path) -> None:
    with living_job(tmp_path, {"sides": [{}]}, kind="chat", module="tests.support.stand_in_chat") as job:
        session = ChatSession(job.run)
        session.wait_ready()
        session.end()
        job.ends()
        with pytest.raises(UserError, match=r"has ended|has no hub"):
            session.send("ask", text="x")
    with living_job(tmp_path / "b", {"story": "sentence"}, kind="chat") as job, pytest.raises(UserError, match="row 3 has no answer"):
        ChatSession(job.run).wait_ready()
