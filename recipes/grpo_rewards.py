"""Rewards for grpo.yaml: what an answer to a GSM8K question is worth. `answer` is the column of that name, one for each completion."""

import re

NUMBER = re.compile(r"####\s*(-?[\d,.]+)")


def text_of(completion):
    """The answer: of a conversation the assistant's turn."""
    return completion if isinstance(completion, str) else completion[-1]["content"]


def number_in(text):
    """The number after the last `####`; None when there is none."""
    found = NUMBER.findall(text)
    return found[-1].replace(",", "").rstrip(".") if found else None


def right_number(completions, answer, **kwargs):
    """1 for the right result."""
    return [float(number_in(text_of(one)) == number_in(gold)) for one, gold in zip(completions, answer)]


def says_it(completions, **kwargs):
    """1 for a result that is marked with `####`, right or wrong: without the mark nothing can be right."""
    return [float(number_in(text_of(one)) is not None) for one in completions]
