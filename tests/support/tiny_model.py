"""A random model with a tokenizer of its own, small enough for a test: no download, no meaning, every mechanism."""

import json
from pathlib import Path

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ message['content'] }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = (
    "the cat sat on a mat and the dog ran to the red house while it rained all day on the old town by the sea one two three four".split()
)


def make_tiny_model(folder: Path, seed: int = 0) -> Path:
    """A two-layer llama (64 wide, so that 4-bit kernels accept it) and a byte-level BPE tokenizer with a ChatML-like template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator([" ".join(WORDS)] * 4, trainers.BpeTrainer(vocab_size=400, special_tokens=specials, initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=specials[1], eos_token=specials[2], pad_token=specials[3], model_max_length=256
    )
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=448,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        pad_token_id=3,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_rows(path: Path, count: int = 48) -> Path:
    """Questions and answers of varying length, the same for every call."""
    rows = []
    for number in range(count):
        length = 3 + number % 7
        words = [WORDS[(number * 5 + offset) % len(WORDS)] for offset in range(length)]
        rows.append({"question": " ".join(words), "answer": " ".join(reversed(words))})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_conversations(path: Path, count: int = 40) -> Path:
    """The rows of write_rows with a column `messages`: one to three exchanges, every second row with a system turn."""
    rows = [json.loads(line) for line in write_rows(path, count).read_text().splitlines()]
    for number, row in enumerate(rows):
        turns = [("system", "one two")] * (number % 2) + [("user", row["question"]), ("assistant", row["answer"])] * (1 + number % 3)
        row["messages"] = [{"role": role, "content": content} for role, content in turns]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
