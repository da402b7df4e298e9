"""Done once by the warm process, on a model of nothing: what the libraries make when they are first used is then there in every worker.

transformers compiles its thousand patterns for the names of weights, and peft finds out what it can wrap, when the first adapter is made:
a quarter of a second, which each worker of a check would pay on its own.
"""

import peft
import torch
import transformers


def practise() -> None:
    """Put an adapter on a Llama of one layer on torch's meta device. Starts no thread: workers are forked after it."""
    config = transformers.LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=8)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
        peft.get_peft_model(model, peft.LoraConfig(r=1, target_modules="all-linear"))
