"""Orders in several processes: rank 0 hears the hub, and every rank carries them out at the same step."""

from typing import Any

import pytest

from tuitune.trainer.orders import Orders, RankedOrders

KEY = b"the run's own"


class Store(dict[str, bytes]):
    """torch.distributed.Store, in one process."""

    def set(self, key: str, value: str) -> None:
        self[key] = value.encode()

    def get(self, key: str) -> bytes:  # type: ignore[override]
        return self[key]

    def check(self, keys: list[str]) -> bool:
        return all(key in self for key in keys)


class Hub:
    """A link on which orders come when the test says so."""

    def __init__(self) -> None:
        self.come: list[dict[str, Any]] = []

    def take(self) -> list[dict[str, Any]]:
        come, self.come = self.come, []
        return come


@pytest.fixture
def two() -> tuple[Hub, RankedOrders, RankedOrders]:
    """The hub, rank 0 and rank 1."""
    hub, store = Hub(), Store()
    return hub, RankedOrders(hub, store, 0, KEY), RankedOrders(Hub(), store, 1, KEY)


def test_what_comes_before_the_gradients_are_exchanged_counts_for_both_at_that_step(two: Any) -> None:
    hub, first, second = two
    hub.come = [{"op": "save"}]
    first.announce(5)
    assert (first.take(5), second.take(5)) == ([{"op": "save"}], [{"op": "save"}])
    assert (first.take(6), second.take(6)) == ([], [])


def test_what_comes_between_exchange_and_boundary_waits_for_the_next_step(two: Any) -> None:
    hub, first, second = two
    first.announce(5)
    hub.come = [{"op": "save"}]
    assert (first.take(5), second.take(5)) == ([], [])
    first.announce(6)
    assert (first.take(6), second.take(6)) == ([{"op": "save"}], [{"op": "save"}])


def test_a_rank_that_is_late_does_not_take_what_the_first_has_announced_for_the_step_after(two: Any) -> None:
    hub, first, second = two
    first.announce(5)
    assert first.take(5) == []
    hub.come = [{"op": "pause"}]
    first.announce(6)
    assert second.take(5) == []
    assert (first.take(6), second.take(6)) == ([{"op": "pause"}], [{"op": "pause"}])


def test_orders_keep_their_order_over_several_micro_batches(two: Any) -> None:
    hub, first, second = two
    for number in range(3):
        hub.come = [{"op": "set", "number": number}]
        first.announce(5)
    assert first.take(5) == second.take(5) == [{"op": "set", "number": number} for number in range(3)]


def test_while_it_is_paused_nothing_is_exchanged_and_both_hear_all_the_same(two: Any) -> None:
    hub, first, second = two
    hub.come = [{"op": "resume"}]
    assert first.wait(5) == second.wait(5) == [{"op": "resume"}]


def test_an_order_of_the_trainer_s_own_goes_the_same_way(two: Any) -> None:
    _, first, second = two
    first.give({"op": "stop"})
    first.announce(2)
    assert first.take(2) == second.take(2) == [{"op": "stop"}]
    alone = Orders(Hub())
    alone.give({"op": "stop"})
    assert alone.take(1) == [{"op": "stop"}]


def test_what_became_of_a_step_is_the_first_rank_s_word(two: Any) -> None:
    _, first, second = two
    assert (first.agree("the disk is full"), second.agree(None)) == ("the disk is full", "the disk is full")
    assert (first.agree(None), second.agree("what I think")) == (None, None)


def test_what_somebody_else_writes_into_the_store_commands_nobody() -> None:
    """The store listens on a port of the box; who has not the run's key cannot speak for rank 0."""
    hub, store = Hub(), Store()
    stranger, second = RankedOrders(hub, store, 0, b"a guess"), RankedOrders(Hub(), store, 1, KEY)
    hub.come = [{"op": "stop"}]
    stranger.announce(5)
    with pytest.raises(RuntimeError, match="somebody else on this box"):
        second.take(5)


def test_an_order_cannot_be_played_again_under_another_number() -> None:
    hub, store = Hub(), Store()
    first, second = RankedOrders(hub, store, 0, KEY), RankedOrders(Hub(), store, 1, KEY)
    hub.come = [{"op": "save"}]
    first.announce(5)
    store["order/1"] = store["order/0"]
    with pytest.raises(RuntimeError, match="order/1"):
        second.take(5)
