"""What the warm process does ahead for its workers is done with that, and leaves it fit to fork."""

import subprocess
import sys

CODE = """
import os, time
os.environ["TOKENIZERS_PARALLELISM"] = "false"
import torch, transformers, peft
torch.set_num_threads(1)
from transformers import conversion_mapping
from tuitune.analyst.practice import practise
threads = len(os.listdir("/proc/self/task"))
before = conversion_mapping._checkpoint_conversion_mapping_cache
practise()
after = conversion_mapping._checkpoint_conversion_mapping_cache
print(before is None, after is not None, len(os.listdir("/proc/self/task")) - threads)
"""


def test_the_patterns_of_transformers_are_compiled_and_no_thread_is_started() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "0"]
