"""Where a micro-batch is cut: rows, pairs with both their rows, packed documents at their borders."""

import pytest

torch = pytest.importorskip("torch")

from tuitune.trainer.pieces import DOCUMENTS, PAIRS, ROWS, in_words  # noqa: E402


def test_a_pair_keeps_both_its_rows_and_what_is_counted_by_pair() -> None:
    """Chosen 0 1 2, then rejected 10 11 12."""
    ids = torch.tensor([[0], [1], [2], [10], [11], [12]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones(6, 1), "ref_chosen_logps": torch.tensor([0.0, 0.1, 0.2])}
    part = PAIRS.part(inputs, 1, 3)
    assert part["input_ids"].flatten().tolist() == [1, 2, 11, 12]
    assert part["ref_chosen_logps"].tolist() == pytest.approx([0.1, 0.2])
    assert (PAIRS.count(inputs), PAIRS.middle(inputs)) == (3, 1)


def test_rows_keep_their_width_and_their_labels() -> None:
    inputs = {"input_ids": torch.arange(12).view(4, 3), "labels": torch.tensor([[5, -100, 7]] * 3 + [[5, 6, 7]]), "use_cache": False}
    part = ROWS.part(inputs, 2, 4)
    assert part["input_ids"].tolist() == [[6, 7, 8], [9, 10, 11]]
    assert part["use_cache"] is False
    assert ROWS.weights(part) == {"units": 2, "tokens": 3}, "the first label of a row is of no position"


@pytest.mark.parametrize("layout", [ROWS, PAIRS])
def test_a_tensor_that_belongs_to_no_row_is_not_cut_by_guess(layout: object) -> None:
    with pytest.raises(ValueError, match="`pixels`"):
        layout.part({"input_ids": torch.ones(4, 2), "pixels": torch.ones(7, 2)}, 0, 1)  # type: ignore[attr-defined]


def packed(*lengths: int) -> dict[str, object]:
    """What TRL's collator makes of documents of these lengths."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    start = 0
    rows = []
    for length in lengths:
        rows.append({"input_ids": list(range(start, start + length))})
        start += length
    return DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)(rows)


def test_part_of_a_packed_row_is_what_the_collator_makes_of_its_documents() -> None:
    part = DOCUMENTS.part(packed(3, 5, 2, 4), 1, 3)
    alone = packed(5, 2)
    assert part.keys() == alone.keys()
    assert part["input_ids"].tolist() == [[3, 4, 5, 6, 7, 8, 9]]
    for name in ("position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "seq_idx"):
        assert torch.equal(part[name], alone[name]), name
    assert (part["max_length_q"], part["max_length_k"]) == (5, 5)
    assert part["labels"].tolist() == [[-100, 4, 5, 6, 7, -100, 9]]


@pytest.mark.parametrize(("lengths", "cut"), [((3, 5, 2, 4), 2), ((10, 1, 1), 1), ((1, 1, 10), 2), ((4, 4), 1)])
def test_documents_are_cut_at_the_border_nearest_to_half_of_the_tokens(lengths: tuple[int, ...], cut: int) -> None:
    assert DOCUMENTS.middle(packed(*lengths)) == cut


def test_an_unknown_column_of_a_packed_row_is_not_cut_by_guess() -> None:
    with pytest.raises(ValueError, match="`speaker`"):
        DOCUMENTS.part(packed(2, 2) | {"speaker": torch.ones(1, 4)}, 0, 1)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([4, 4], "2 × 4 rows"),
        ([1, 1, 1], "3 × 1 row"),
        ([2, 2, 4], "2 + 2 + 4 rows"),
        ([1, 1, 1, 1, 4], "5 parts of 1 to 4 rows"),
    ],
)
def test_a_division_reads_as_one_would_say_it(counts: list[int], words: str) -> None:
    assert in_words(ROWS, counts) == words
