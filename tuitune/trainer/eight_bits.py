"""Weights in 8 bits: bitsandbytes says at every product of every layer that it computes in float16, which would fill a run's log."""

import logging

LOGGER = "bitsandbytes.autograd._functions"  # tests/contract/test_eight_bits.py looks whether it still speaks there


class _Once(logging.Filter):
    """Lets each message of a logger through once."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a message that was there before."""
        text = record.getMessage()
        new = text not in self.seen
        self.seen.add(text)
        return new


def say_it_once() -> None:
    """From now on each of those sentences is written once a process."""
    logger = logging.getLogger(LOGGER)
    if not any(isinstance(one, _Once) for one in logger.filters):
        logger.addFilter(_Once())
