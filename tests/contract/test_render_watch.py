"""Every template that transformers renders goes through the function that the watch wraps; one that loops ends the request."""

import threading
import time
from pathlib import Path

import pytest

from tests.support.tiny_model import write_rows
from tuitune.analyst.client import Analyst
from tuitune.errors import UserError

LOOPS = {
    "in Python": "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}{% endfor %}{% endfor %}{% endfor %}",
    "in one C call": "{{ 9 ** (9 ** 9) }}",
}


def test_transformers_renders_through_the_wrapped_function(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers
    from transformers import tokenization_utils_base as base

    from tuitune.analyst.render_watch import RenderWatch
    from tuitune.analyst.wrapped_renders import watch_renders

    class Seen(RenderWatch):
        began = ended = 0

        def begin(self) -> None:
            super().begin()
            self.began += 1

        def end(self) -> None:
            super().end()
            self.ended += 1

    monkeypatch.setattr(base, "render_jinja_template", base.render_jinja_template)  # put back afterwards
    watch = Seen()
    watch_renders(watch)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    talk = [{"role": "user", "content": "one"}]
    tokenizer.apply_chat_template(talk)
    with pytest.raises(Exception, match="two"):
        tokenizer.apply_chat_template(talk, chat_template="{{ raise_exception('two') }}")
    assert (watch.began, watch.ended) == (2, 2)
    assert not watch.stuck


@pytest.mark.parametrize("op", ["inspect", "survey", "template"])
@pytest.mark.parametrize("kind", LOOPS)
def test_a_real_template_that_never_returns_is_ended_while_another_request_is_answered(
    tiny_model: Path, tmp_path: Path, analyst: Analyst, kind: str, op: str
) -> None:
    write_rows(tmp_path / "train.jsonl", 4)
    (tmp_path / "loops.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}" + LOOPS[kind])
    (tmp_path / "recipe.yaml").write_text(
        f"task: sft\nmodel: {{name_or_path: {tiny_model}}}\ntokenizer: {{chat_template: loops.jinja}}\n"
        "dataset: {train: [{path: train.jsonl, columns: {user: question, assistant: answer}}]}\ntraining: {max_length: 32}\n"
    )
    said: list[str] = []

    def ask() -> None:
        try:
            analyst.request(op, {"recipe": str(tmp_path / "recipe.yaml")})
        except UserError as error:
            said.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    with pytest.raises(UserError, match="unknown op"):
        analyst.request("nothing", {})  # the analyst is warm and listens, whatever its workers do
    thread.join(60)
    assert len(said) == 1
    assert said[0].startswith("the chat template did not return within 2 s"), said


def test_reads_nothing_of_a_watch_that_never_began() -> None:
    from tuitune.analyst.render_watch import RenderWatch

    watch = RenderWatch()
    assert not watch.stuck
    watch.begin()
    assert not watch.stuck, "two seconds have not passed"
    time.sleep(0.01)
    watch.end()
    watch.close()
