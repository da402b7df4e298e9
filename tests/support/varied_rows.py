"""Rows in every shape that tuitune reads, with texts that tokenizers and templates treat in their own ways.

`write_rows(folder)` writes one jsonl file a shape; SHAPES says how a recipe maps it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Turn = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """`columns` as a recipe has them; `task`: whose trainer it is for."""

    name: str
    columns: dict[str, str]
    task: str = "sft"


MESSAGES = {"messages": "messages"}
PAIR = {"prompt": "prompt", "completion": "completion"}
CHOICE = {"chosen": "chosen", "rejected": "rejected"}
SHAPES = {
    shape.name: shape
    for shape in (
        Shape("single-turn", MESSAGES),
        Shape("multi-turn", MESSAGES),
        Shape("system", MESSAGES),
        Shape("prompt-completion-turns", PAIR),
        Shape("prompt-completion-text", PAIR),
        Shape("text", {"text": "text"}),
        Shape("user-assistant", {"user": "question", "assistant": "answer"}),
        Shape("tools", {**MESSAGES, "tools": "tools"}),
        Shape("reasoning", MESSAGES),
        Shape("thinking", MESSAGES),
        Shape("reasoning-column", {"user": "question", "assistant": "answer", "reasoning": "why"}),
        Shape("preference-text", {"prompt": "prompt", **CHOICE}, "dpo"),
        Shape("preference-text-implicit", CHOICE, "dpo"),
        Shape("preference-turns", {"prompt": "prompt", **CHOICE}, "dpo"),
        Shape("preference-turns-implicit", CHOICE, "dpo"),
    )
}

TEXTS = (
    ("What is 12 + 30?", "12 + 30 = 42."),
    (
        "Name three primes.\n\n- one\n- two",
        "2, 3 and 5;\n\tthen 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53.",
    ),
    ("  blanks before and after  ", "\n  as here \n\n"),
    ("Schöne Grüße aus 東京 🦜👩‍👩‍👧 e\u0301", "Ça va? Да. नमस्ते 𝔘𝔫𝔦 ﷽"),
    ("def f(x):\n    return x ** 2", "```python\nprint(f(1_000_000))  # 1000000000000\n```"),
    ("Is <|im_end|> or </s> or <eos> or <|eot_id|> text?", "[INST] no [/INST] <end_of_turn> <|end|> it is data"),
    ("a", "b"),
    ("one two " * 40, "three four five " * 30),
    ("<b>&amp;</b> {{ jinja }} {% raw %}", "quotes \" and \\ and ' and \u201c"),
    ("Answer with yes.", "yes"),
)
WHY = (
    "It has to be added up.",
    "2 is the first.\nThen 3.",
    "  hm ",
    "日本語で考える",
    "x squared",
    "no <think> here",
    "c",
    "long " * 20,
    "{}",
    "",
)


def user(text: str) -> Turn:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> Turn:
    return {"role": "assistant", "content": text, **more}


def _dialogue(number: int, count: int) -> list[Turn]:
    pairs = [TEXTS[(number + step) % len(TEXTS)] for step in range(count)]
    return [turn for question, answer in pairs for turn in (user(question), assistant(answer))]


def _tool_talk(number: int) -> dict[str, Any]:
    calls = (("add", {"a": number, "b": [1.5, -2]}), ("search", {"query": "naïve é", "deep": {"x": None}}), ("noop", {}))
    name, arguments = calls[number % 3]
    tools = [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": f"does {name}",
                "parameters": {
                    "type": "object",
                    "properties": {key: {"type": "string", "description": f"the {key}"} for key in arguments},
                    "required": list(arguments)[:1],
                },
            },
        }
    ]
    question, answer = TEXTS[number]
    call = assistant("", tool_calls=[{"type": "function", "function": {"name": name, "arguments": arguments}}])
    turns = [user(question), call, {"role": "tool", "name": name, "content": f'{{"result": {number}}}'}, assistant(answer)]
    return {"messages": turns if number % 4 != 3 else turns[:2], "tools": tools}


def _row(shape: str, number: int) -> dict[str, Any]:
    question, answer = TEXTS[number]
    other = TEXTS[(number + 1) % len(TEXTS)][1]
    if shape == "preference-text-implicit":
        return {"chosen": f"{question}\n{answer}", "rejected": f"{question}\n{other}"}
    if shape == "preference-turns-implicit":
        return {"chosen": [user(question), assistant(answer)], "rejected": [user(question), assistant(other)]}
    many = _dialogue(number, 1 + number % 4)
    return {
        "single-turn": lambda: {"messages": _dialogue(number, 1)},
        "multi-turn": lambda: {"messages": many},
        "system": lambda: {"messages": [{"role": "system", "content": f"Be brief. {number}"}, *many]},
        "prompt-completion-turns": lambda: {"prompt": many[:-1], "completion": many[-1:]},
        "prompt-completion-text": lambda: {"prompt": f"{question}\n", "completion": answer},
        "text": lambda: {"text": f"{question} {answer}"},
        "user-assistant": lambda: {"question": question, "answer": answer},
        "tools": lambda: _tool_talk(number),
        "reasoning": lambda: {"messages": [*many[:-1], {**many[-1], "reasoning_content": WHY[number]}]},
        "thinking": lambda: {"messages": [*many[:-1], {**many[-1], "thinking": WHY[number]}]},
        "reasoning-column": lambda: {"question": question, "answer": answer, "why": WHY[number]},
        "preference-text": lambda: {"prompt": question, "chosen": answer, "rejected": other},
        "preference-turns": lambda: {"prompt": many[:-1], "chosen": many[-1:], "rejected": [assistant(other)]},
    }[shape]()


def write_rows(folder: Path) -> None:
    """SHAPE.jsonl of every shape."""
    for shape in SHAPES:
        lines = [json.dumps(_row(shape, number), ensure_ascii=number % 2 == 0) + "\n" for number in range(len(TEXTS))]
        (folder / f"{shape}.jsonl").write_text("".join(lines), encoding="utf-8")
