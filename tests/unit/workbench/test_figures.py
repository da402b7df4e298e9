"""Numbers as people read them."""

import math

import pytest

from tuitune.workbench import figures


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (0.0, "0"),
        (0.6123456, "0.6123"),
        (2e-4, "2.00e-4"),
        (60, "60"),
        (123456.7, "123,457"),
        (1e9, "1.00e9"),
    ],
)
def test_metrics_have_four_digits_and_powers_only_where_they_help(value: float | None, text: str) -> None:
    assert figures.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(6e-4, "6e-4"), (5.714e-4, "5.71e-4"), (1.5733, "1.57"), (0.0, "0"), (100.0, "100"), (2500, "2,500")]
)
def test_axis_labels_are_short(value: float, text: str) -> None:
    assert figures.tick(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "–"), (41, "00:41"), (727, "12:07"), (12310, "3:25:10"), (184_200, "2d 03:10"), (-1, "–"), (math.inf, "–")]
)
def test_durations(seconds: float | None, text: str) -> None:
    assert figures.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, "–"), (512, "512 B"), (616 << 20, "616 MiB"), (int(21.3 * 2**30), "21.3 GiB"), (5 << 40, "5.0 TiB")]
)
def test_sizes_say_their_unit(count: float | None, text: str) -> None:
    assert figures.size(count) == text


@pytest.mark.parametrize(("value", "text"), [(812, "812"), (27_123, "27.1k"), (271_230, "271k"), (1.2e6, "1.2M"), (None, "–")])
def test_rates(value: float | None, text: str) -> None:
    assert figures.rate(value) == text
