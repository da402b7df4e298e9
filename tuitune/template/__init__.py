"""Chat templates: which part of a rendered row comes from where. Needs a tokenizer's renderer handed in; imports no torch."""
