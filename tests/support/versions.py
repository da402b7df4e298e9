"""Facts that only newer versions of a library have; the older tested set is torch 2.11 with transformers 5.17."""

import pytest
import transformers

NEWER = tuple(int(part) for part in transformers.__version__.split(".")[:2]) >= (5, 23)
newer_transformers = pytest.mark.skipif(not NEWER, reason=f"a fact of transformers 5.23; this is {transformers.__version__}")
