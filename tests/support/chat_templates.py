"""Small chat templates in the styles of well-known families, written for these tests, and a renderer that needs no transformers."""

from collections.abc import Sequence
from typing import Any

import jinja2
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

CHATML = (  # one output for all roles
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
LLAMA = (  # header and content go into a name first
    "{% for message in messages %}"
    "{% set content = '<|head|>' + message['role'] + '<|/head|>\\n\\n' + message['content'] | trim + '<|eot|>' %}"
    "{% if loop.index0 == 0 %}{% set content = '<|begin|>' + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\\n\\n' }}{% endif %}"
)
MISTRAL = (  # no generation prompt, an end only behind answers
    "{{ '<s>' }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + '</s>' }}{% else %}"
    "{{ raise_exception('no system') }}{% endif %}{% endfor %}"
)
GEMMA = (  # another name for the role, answers trimmed
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}"
    "{% endif %}{{ '<|turn|>' + role + '\\n' + message['content'] | trim + '<|/turn|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn|>model\\n' }}{% endif %}"
)
PHI = (  # the conversation is closed by a token of its own
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ '<|user|>\\n' + message['content'] + '<|end|>\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ '<|assistant|>\\n' + message['content'] + '<|end|>\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ '<|close|>' }}{% endif %}"
)
ZEPHYR = """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + '</s>' }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n'  + message['content'] + '</s>' }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""  # blanks and line feeds that Jinja's own rules settle
QWEN = """\
{%- for message in messages %}
    {#- what was thought before the last question is left out #}
    {%- if message.role == 'assistant' %}
        {{- '<|im_start|>' + message.role + '\\n' }}
        {%- if message.reasoning_content and loop.last %}
            {{- '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- message.content }}
        {%- for call in message.tool_calls %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- call.function.name }}
            {{- '", "arguments": ' + call.function.arguments | tojson + '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""
STYLES = {"chatml": CHATML, "llama": LLAMA, "mistral": MISTRAL, "gemma": GEMMA, "phi": PHI, "zephyr": ZEPHYR, "qwen": QWEN}
SPECIAL = (
    *("<|im_start|>", "<|im_end|>", "<|head|>", "<|/head|>", "<|eot|>", "<|begin|>", "<s>", "</s>", "[INST]", "[/INST]"),
    *("<|turn|>", "<|/turn|>", "<|user|>", "<|assistant|>", "<|end|>", "<|close|>"),
)
OPEN, CLOSE = "⟦", "⟧"


class _Generation(Extension):
    """{% generation %} puts its block between brackets."""

    tags = {"generation"}

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_bracketed"), [], [], body).set_lineno(line)

    def _bracketed(self, caller: Any) -> str:
        return f"{OPEN}{caller()}{CLOSE}"


def render(template: str, turns: Sequence[Any], prompt: bool = False) -> str:
    """The template on turns, {% generation %} shown as brackets."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation])

    def refuse(text: str) -> None:
        raise jinja2.TemplateError(text)

    environment.globals["raise_exception"] = refuse
    environment.filters["tojson"] = lambda value: str(value).replace("'", '"')
    return environment.from_string(template).render(messages=turns, add_generation_prompt=prompt)


def talk(pairs: int, **answer: Any) -> list[dict[str, Any]]:
    """A conversation of so many questions and answers; `answer`: more keys of the answers."""
    turns = []
    for number in range(pairs):
        turns += [{"role": "user", "content": f"What is {number}?"}, {"role": "assistant", "content": f"A number {number}.", **answer}]
    return turns
