"""Converting the demo model through transformers' own GGUF reader. That a good file becomes a good model is proven by tests/e2e, on the
real one; here, that a bad file is a sentence and leaves nothing behind."""

from pathlib import Path

import pytest

from tuitune.demo.model import convert
from tuitune.errors import UserError


def test_a_file_that_is_no_model_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + b"\x03\x00\x00\x00" + b"\xff" * 64)
    with pytest.raises(UserError, match=r"^broken\.gguf could not be converted: .") as raised:
        convert(tmp_path / "broken.gguf", tmp_path / "made")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "made").exists()
