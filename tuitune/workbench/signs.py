"""The sign of every state of a run and of every kind of event, with its role: never the colour alone. Imports nothing of Textual."""

_STATES = {
    "running": ("▶", "good"),
    "evaluating": ("▶", "good"),
    "saving": ("▶", "good"),
    "done": ("✓", "good"),
    "stopped": ("■", "warn"),
    "stopping": ("■", "warn"),
    "paused": ("‖", "warn"),
    "suspended": ("○", "warn"),
    "hung": ("!", "error"),
    "failed": ("✗", "error"),
    "lost": ("✗", "error"),
}
_EVENTS = {
    "checkpoint": ("◆", "good"),
    "eval": ("◇", "one"),
    "command": ("»", "one"),
    "applied": ("✓", "good"),
    "refused": ("✗", "error"),
    "crash": ("✗", "error"),
    "number": ("!", "error"),
    "oom": ("!", "error"),
    "warning": ("!", "warn"),
    "data": ("▤", "dim"),
    "proof": ("▤", "dim"),
    "split": ("▤", "dim"),
    "attempt": ("↻", "warn"),
    "seam": ("↻", "warn"),
    "alarm": ("!", "error"),
    "end": ("■", "title"),
}


def state_sign(state: str) -> tuple[str, str]:
    """(sign, role) of a run's state; any other state is one that waits for something."""
    return _STATES.get(state, ("…", "dim"))


def event_sign(kind: str) -> tuple[str, str]:
    """(sign, role) of an event."""
    return _EVENTS.get(kind, ("·", "dim"))
