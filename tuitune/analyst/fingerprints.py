"""Data preparation without `datasets` pickling the tokenizer.

Every `Dataset.map` hashes its arguments to name a cache file, and hashes them by pickling in Python: for a tokenizer of 256k tokens that
takes longer than the tokens themselves (preflight-checks.md A.10). A data set made in memory has no cache file, so a random name does as
well; what is in it stays the same (tests/contract/test_fingerprints.py).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import datasets

PLACES = (datasets.arrow_dataset, datasets.fingerprint)  # the modules that call it by this name: map, and everything else


@contextmanager
def random_fingerprints() -> Iterator[None]:
    """Data sets that are made inside of this are named at random. For the whole process, not for a thread."""

    def update_fingerprint(fingerprint: str, transform: Any, transform_args: dict[str, Any]) -> str:
        return str(datasets.fingerprint.generate_random_fingerprint())

    own = [place.update_fingerprint for place in PLACES]
    try:
        for place in PLACES:
            place.update_fingerprint = update_fingerprint
        yield
    finally:
        for place, function in zip(PLACES, own):
            place.update_fingerprint = function
