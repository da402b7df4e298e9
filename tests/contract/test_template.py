"""`template` shows what transformers renders and proves its markers by transformers' own mask; templates are strangers' programs."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.chat_templates import CHATML, GEMMA, PHI, QWEN, SPECIAL, STYLES, talk
from tuitune.template.document import TemplateReport

ENDS = {"chatml": "<|im_end|>", "llama": "<|eot|>", "mistral": "</s>", "gemma": "<|/turn|>", "phi": "<|end|>", "qwen": "<|im_end|>"}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 3, "b": "four"}}}
TOOL = {"type": "function", "function": {"name": "add", "description": "adds", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer that knows the special tokens of all styles."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.chat_template = CHATML
    folder = tmp_path_factory.mktemp("model")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def recipe(model: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a recipe; `template` None: the tokenizer's own."""

    def write(template: str | None, rows: list[dict[str, Any]], columns: str = "messages: messages", training: str = "{}") -> Path:
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        own = ""
        if template is not None:
            (tmp_path / "own.jinja").write_text(template)
            own = "tokenizer: {chat_template: own.jinja}\n"
        path = tmp_path / "r.yaml"
        path.write_text(
            f"task: {'dpo' if 'chosen' in columns else 'sft'}\nmodel: {{name_or_path: {model}}}\n{own}"
            f"dataset:\n  train: [{{path: rows.jsonl, columns: {{{columns}}}}}]\ntraining: {training}\n"
        )
        return path

    return write


def look(path: Path, **wishes: Any) -> TemplateReport:
    from tuitune.analyst.chat_template import examine
    from tuitune.recipe.recipe import load_recipe

    return examine(load_recipe(path), lambda text: None, **wishes)


def talks(count: int = 5) -> list[dict[str, Any]]:
    return [{"messages": talk(1 + number % 3)} for number in range(count)]


@pytest.mark.parametrize("style", STYLES)
def test_the_render_is_transformers_own(recipe: Callable[..., Path], model: Path, style: str) -> None:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    report = look(recipe(STYLES[style], talks()))
    assert report.source.text == STYLES[style]
    assert "own.jinja" in report.source.origin
    assert (report.total, report.looked) == (5, 5)
    for row, shown in zip(talks(), report.rows, strict=True):
        (found,) = shown.conversations
        options = {"chat_template": STYLES[style]}
        assert found.text == tokenizer.apply_chat_template(row["messages"], tokenize=False, **options)
        assert found.tokens == len(tokenizer.apply_chat_template(row["messages"], **options)["input_ids"])
        assert "".join(found.text[part.start : part.end] for part in found.spans) == found.text
        assert {part.role for part in found.spans if part.source == "content"} == {"user", "assistant"}


def test_tools_and_arguments_of_the_template_are_passed_as_the_trainer_passes_them(recipe: Callable[..., Path]) -> None:
    template = "{% for tool in tools %}[{{ tool.function.name }}]{% endfor %}{{ mood }}{% for m in messages %}{{ m.content }}{% endfor %}"
    rows = [
        {"messages": talk(1), "tools": [TOOL], "chat_template_kwargs": {"mood": "kind"}},
        {"messages": talk(1), "tools": json.dumps([TOOL, TOOL]), "chat_template_kwargs": {"mood": "cold"}},
    ]
    columns = "messages: messages, tools: tools, chat_template_kwargs: chat_template_kwargs"
    for row in rows:
        (shown,) = look(recipe(template, [row], columns)).rows
        count = 1 if isinstance(row["tools"], list) else 2
        assert shown.conversations[0].text.startswith("[add]" * count + row["chat_template_kwargs"]["mood"])


def test_both_sides_of_a_preference_pair_are_rendered(recipe: Callable[..., Path]) -> None:
    ask, good, bad = ([turn] for turn in (*talk(1), {"role": "assistant", "content": "No."}))
    report = look(recipe(None, [{"p": ask, "c": good, "r": bad}], "prompt: p, chosen: c, rejected: r"))
    (row,) = report.rows
    assert [found.name for found in row.conversations] == ["chosen", "rejected"]
    assert [found.text.endswith(f"{text}<|im_end|>\n") for found, text in zip(row.conversations, ("A number 0.", "No."))] == [True, True]


def test_plain_text_has_no_render_and_says_why(recipe: Callable[..., Path]) -> None:
    report = look(recipe(None, [{"t": "once upon a time"}], "text: t"))
    assert report.rows == []
    assert report.note == "the rows are plain text: no template is applied to them"
    assert report.source.text == CHATML


# Markers


@pytest.mark.parametrize("style", ENDS)
def test_the_marked_template_masks_the_answers_and_their_ends_in_transformers_itself(
    recipe: Callable[..., Path], model: Path, style: str
) -> None:
    import transformers

    marking = look(recipe(STYLES[style], talks()), mark=True, rows=[]).marking
    assert marking is not None
    assert marking.refused is None
    assert (marking.proven, marking.total, marking.turns, marking.without_end) == (5, 5, 9, 0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    for row in talks():
        turns = row["messages"]
        stock = tokenizer.apply_chat_template(turns, chat_template=STYLES[style], return_dict=True)
        found = tokenizer.apply_chat_template(turns, chat_template=marking.text, return_dict=True, return_assistant_tokens_mask=True)
        assert found["input_ids"] == stock["input_ids"]
        masked = [id for id, inside in zip(found["input_ids"], found["assistant_masks"], strict=True) if inside]
        expected = "".join(f"{turn['content']}{ENDS[style]}" for turn in turns if turn["role"] == "assistant")
        assert tokenizer.decode(masked).replace(" ", "") == expected.replace(" ", "")


def test_thoughts_and_tool_calls_are_marked(recipe: Callable[..., Path]) -> None:
    rows = [
        *talks(3),
        {"messages": [*talk(1), {"role": "user", "content": "3+4?"}, {"role": "assistant", "content": "", "tool_calls": [CALL]}]},
    ]
    rows.append({"messages": talk(1, reasoning_content="hm")})
    report = look(recipe(QWEN, rows), mark=True)
    assert report.marking is not None
    assert report.marking.refused is None
    assert report.marking.proven == 5
    last = report.rows[4].conversations[0]
    assert last.answers is not None
    assert [last.text[start:end] for start, end in last.answers] == ["<think>\nhm\n</think>\n\nA number 0.<|im_end|>"]


def test_trl_trains_on_exactly_these_answers(recipe: Callable[..., Path], tiny_model: Path, tmp_path: Path) -> None:
    import datasets
    import transformers
    import trl

    marking = look(recipe(GEMMA, talks()), mark=True, rows=[]).marking
    assert marking is not None
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = marking.text
    trainer = trl.SFTTrainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(tiny_model),
        args=trl.SFTConfig(output_dir=str(tmp_path / "unused"), use_cpu=True, bf16=False, assistant_only_loss=True, max_length=None),
        train_dataset=datasets.Dataset.from_list(talks()),
        processing_class=tokenizer,
    )
    trained = [tokenizer.decode([label for label in row["labels"] if label != -100]) for row in trainer.train_dataset]
    assert trained == ["".join(f"A number {n}.<|/turn|>" for n in range(1 + number % 3)) for number in range(5)]


@pytest.mark.parametrize(
    ("name", "only_trls"),
    [
        ("cohere", set()),
        ("deepseekv3", {"<｜Assistant｜>"}),
        ("gemma", {"\n"}),
        ("llama3", set()),
        ("phi3", {"\n", "<|im_end|>"}),  # the tokenizer's end of text, which closes a conversation
        ("qwen2_5", {"\n"}),
        ("qwen3_instruct_2507", {"\n"}),
    ],
)
def test_real_templates_get_the_mask_of_trls_own_variant_but_for_headers_and_line_feeds(
    recipe: Callable[..., Path], model: Path, name: str, only_trls: set[str]
) -> None:
    import re

    import transformers
    import trl.chat_template_utils as known

    stock, variant = (getattr(known, f"{name}_{kind}") for kind in ("chat_template", "training_chat_template"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    tokenizer.add_special_tokens({"additional_special_tokens": sorted(set(re.findall(r"<[|｜/]?[\w▁ ]+[|｜]?>", stock)))})
    tokenizer.save_pretrained(model.parent / "real")
    path = recipe(stock, talks())
    path.write_text(path.read_text().replace(str(model), str(model.parent / "real")))
    marking = look(path, mark=True, rows=[]).marking
    assert marking is not None
    assert marking.refused is None
    extra = set()
    for row in talks():
        options = {"return_dict": True, "return_assistant_tokens_mask": True}
        ours, trls = (tokenizer.apply_chat_template(row["messages"], chat_template=text, **options) for text in (marking.text, variant))
        assert ours["input_ids"] == trls["input_ids"]
        pairs = list(zip(ours["input_ids"], ours["assistant_masks"], trls["assistant_masks"], strict=True))
        assert not any(own and not other for _, own, other in pairs)
        extra |= {tokenizer.decode([id]) for id, own, other in pairs if other and not own}
    assert extra == only_trls


def test_a_template_that_cannot_be_proven_is_refused_with_the_row(recipe: Callable[..., Path]) -> None:
    shouts = CHATML.replace("message['content'] +", "('' if message['content'] == 'A number 1.' else message['content']) +")
    marking = look(recipe(shouts, talks(2)), mark=True, rows=[]).marking
    assert marking is not None
    assert marking.text == ""
    assert marking.refused is not None
    assert marking.refused.startswith("row 1: the template looks into the texts")


def test_markers_that_are_there_already_are_held_against_the_rows(recipe: Callable[..., Path]) -> None:
    good = look(recipe(CHATML, talks()), mark=True, rows=[]).marking
    assert good is not None
    again = look(recipe(good.text, talks()), mark=True, rows=[]).marking
    assert again is not None
    assert again.refused == "the template has {% generation %} already: its mask is what the assistant writes, proven on 5 conversations"
    endless = good.text.replace(" + '<|im_end|>' }}{% endgeneration %}", " }}{% endgeneration %}{{ '<|im_end|>' }}")
    assert endless != good.text
    again = look(recipe(endless, talks(1)), mark=True, rows=[]).marking
    assert again is not None
    assert "('<|im_end|>') is the assistant's and not in the mask" in str(again.refused)


# Comparing


def test_against_a_file_a_model_and_a_gguf_file(recipe: Callable[..., Path], model: Path, tmp_path: Path) -> None:
    import gguf

    (tmp_path / "other.jinja").write_text(CHATML.replace("'\\n' + message['content']", "'\\n\\n' + message['content']"))
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_chat_template(GEMMA)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    path = recipe(None, talks(2))
    for name, text, differs in (("other.jinja", None, True), (str(model), CHATML, False), ("m.gguf", GEMMA, True)):
        comparison = look(path, other=name).comparison
        assert comparison is not None
        assert text is None or comparison.other.text == text
        assert [row.equal for row in comparison.rows] == [not differs] * 2
        assert bool(comparison.patch) == differs
    found = look(path, other="other.jinja").comparison
    assert found is not None
    first = found.rows[0]
    assert first.text is not None
    assert first.text.at == len("<|im_start|>user\n")
    assert (first.text.one[:4], first.text.other[:4]) == ("What", "\nWha")
    assert first.ids is not None
    assert first.render.startswith("<|im_start|>user\n\nWhat")


def test_against_what_trl_trains_with_and_trls_own_refusal(recipe: Callable[..., Path]) -> None:
    from trl.chat_template_utils import qwen3_chat_template, qwen3_training_chat_template

    from tuitune.errors import UserError

    path = recipe(qwen3_chat_template, [{"messages": talk(2, reasoning_content="hm")}])
    comparison = look(path, other="training").comparison
    assert comparison is not None
    assert comparison.other.text == qwen3_training_chat_template
    assert not comparison.rows[0].equal
    path = recipe(qwen3_chat_template, talks(1), training="{assistant_only_loss: true}")
    report = look(path)
    assert report.source.text == qwen3_training_chat_template
    assert "TRL's training variant" in report.source.origin
    with pytest.raises(UserError, match="no training variant"):
        look(recipe(PHI, talks(1)), other="training")
    report = look(recipe(PHI, talks(1), training="{assistant_only_loss: true}"))
    assert report.note is not None
    assert "no training variant" in report.note


@pytest.mark.parametrize(("name", "said"), [("none.jinja", "cannot be read"), ("broken.gguf", "cannot be read as GGUF")])
def test_an_other_template_that_is_not_there_is_a_sentence(recipe: Callable[..., Path], tmp_path: Path, name: str, said: str) -> None:
    from tuitune.errors import UserError

    (tmp_path / "broken.gguf").write_bytes(b"GGUF no")
    with pytest.raises(UserError, match=said):
        look(recipe(None, talks(1)), other=name)


# Strangers' programs


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "RecursionError"),
        ("{{ raise_exception('roles must alternate\x1b[2J') }}", "roles must alternate␛[2J"),
        ("{{ messages.nothing.at.all }}", "UndefinedError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{% if %}", "TemplateSyntaxError"),
    ],
)
def test_a_template_that_fails_is_an_answer_of_its_rows(recipe: Callable[..., Path], template: str, said: str) -> None:
    report = look(recipe(template, talks(2)), mark=True)
    for row in report.rows:
        assert row.conversations[0].text == ""
        assert said in str(row.conversations[0].error)
    assert report.marking is not None
    assert report.marking.refused is not None


def test_control_characters_are_shown_and_never_obeyed(recipe: Callable[..., Path]) -> None:
    from tuitune.template.report import fault_line, print_report, rendered

    hostile = "\x1b]0;owned\x07\u202e\x9b2J"
    template = "{% if messages | length == 1 %}" + hostile + "{% endif %}" + hostile + CHATML
    report = look(
        recipe(template, [{"messages": [{"role": "user", "content": hostile}, {"role": "assistant", "content": "ok"}]}]), mark=True
    )
    (found,) = report.rows[0].conversations
    assert hostile in found.text
    assert found.faults
    from io import StringIO

    from rich.console import Console

    page = StringIO()
    print_report(report, Console(file=page, force_terminal=False), all_rows=True)
    for shown in (rendered(found).plain, fault_line(found.faults[0]), page.getvalue()):
        assert not any(character in shown for character in "\x1b\x07\u202e\x9b")


def test_a_huge_row_is_shown_in_part_and_compared_whole(recipe: Callable[..., Path]) -> None:
    huge = {"messages": [{"role": "user", "content": "a" * 500_000}, {"role": "assistant", "content": "b"}]}
    report = look(recipe(None, [huge]))
    (found,) = report.rows[0].conversations
    assert len(found.text) == 200_000
    assert found.left_out > 300_000
    assert found.tokens is None
    assert {part.role for part in found.spans} == {"unknown"}
    assert found.faults == []


# The command


def test_the_command_prints_one_json_document_and_writes_only_when_asked(
    recipe: Callable[..., Path], tmp_path: Path, command: Callable[..., Any]
) -> None:
    path = recipe(None, talks(3))
    done = command("template", str(path), "--json", "--row", "1", "--diff", str(path.parent / "own.gguf"))
    assert (done.returncode, done.stdout) == (1, ""), "a missing file is an error"
    alone = [sys.executable, "-m", "tuitune", "template", str(path), "--json", "--mark-generation", "--write"]  # an analyst of its own
    done = subprocess.run(alone, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == 1
    assert document["template"]["text"] == CHATML
    assert document["prefix"] == {
        "conversations": 3,
        "turns": 12,
        "failing_conversations": 0,
        "failing_turns": 0,
        "failing_prompts": 0,
        "not_rendered": 0,
    }
    assert [row["row"] for row in document["rows"]] == [0, 1, 2]
    assert document["generation"]["proven"] == 3
    written = tmp_path / "r.generation.jinja"
    assert written.read_text() == document["generation"]["text"]
    written.write_text("mine")
    done = command("template", str(path), "--mark-generation", "--write")
    assert done.returncode == 2
    assert "exists and holds something else" in done.stderr
    assert written.read_text() == "mine"


def test_wrong_usage_of_the_command(recipe: Callable[..., Path], command: Callable[..., Any]) -> None:
    path = recipe(None, talks(1))
    for words, said in ((("--row", "9"), "there is no row 9"), (("--write",), "--mark-generation")):
        done = command("template", str(path), *words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert said in done.stderr


def test_a_comparison_says_which_of_the_two_templates_fails(tiny_model: Path) -> None:
    """A failure of the template in force is no difference to an empty text."""
    from transformers import AutoTokenizer

    from tuitune.analyst.chat_template import compare
    from tuitune.analyst.rendering import Renderer, Talk
    from tuitune.template.document import Source

    good, bad = "{% for m in messages %}{{ m.content }}{% endfor %}", "{{ raise_exception('not this') }}"
    talk = Talk(0, "input", [{"role": "user", "content": "one"}], {"tools": None})
    for ours, other, said in ((bad, good, "the template in force fails: "), (good, bad, "the other template fails: ")):
        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
        tokenizer.chat_template = ours
        (row,) = compare(Renderer(tokenizer), Source(ours, "ours", "", False), Source(other, "other", "", False), [talk]).rows
        assert row.error is not None
        assert row.error.startswith(said)
        assert "not this" in row.error
        assert not row.equal
