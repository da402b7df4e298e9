"""What a training method is judged by beside its loss: TRL's names of it, and which two charts of the page show it. Pure functions."""

from collections.abc import Collection
from dataclasses import dataclass

from tuitune.workbench.views.run.arrangement import GRAD, RATE


@dataclass(frozen=True)
class Group:
    """Several metrics in one chart: (metric, word) each. `title`: also its name where metrics are chosen."""

    title: str
    metrics: tuple[tuple[str, str], ...]


PREFERRED = Group("rewards", (("rewards/margins", "margin"), ("rewards/chosen", "chosen"), ("rewards/rejected", "rejected")))
LENGTHS = Group("answer length", (("completions/mean_length", "mean"), ("completions/max_length", "longest")))
GROUPS = {group.title: group for group in (PREFERRED, LENGTHS)}

# Preferences (DPO, KTO, ORPO, CPO, online DPO), a reward model, answers that are rewarded (GRPO, RLOO): what is charted in the places of
# learning rate and gradient norm; the first of them that the run has.
OWN: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("rewards/margins", (PREFERRED.title, "rewards/accuracies", "kl")),
    ("reward", ("reward", LENGTHS.title)),
    ("margin", ("margin", "accuracy")),
)
WORDS = {
    "rewards/margins": "margin",
    "rewards/accuracies": "chosen ahead",
    "reward_std": "reward std",
    "kl": "KL",
    "margin": "margin",
    "completions/mean_length": "length",
}
NEWEST = ("rewards/margins", "rewards/accuracies", "reward", "reward_std", "margin", "kl", "completions/mean_length")


def own_metrics(names: Collection[str]) -> dict[str, str]:
    """Chart → what it shows for the method that logs these metrics; {} for SFT."""
    wanted = next((shown for sign, shown in OWN if sign in names), ())
    there = [name for name in wanted if name in names or (name in GROUPS and any(metric in names for metric, _ in GROUPS[name].metrics))]
    return dict(zip((RATE, GRAD), there))
