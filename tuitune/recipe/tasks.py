"""Which of TRL's trainers a recipe can name, and what sets them apart; tuitune.trainer.methods has their classes."""

TASKS = ("sft", "dpo", "kto", "reward", "grpo", "rloo", "orpo", "cpo", "online_dpo")
PAIRED = ("dpo", "reward", "orpo", "cpo")  # rows are a chosen and a rejected answer
PROMPTED = ("grpo", "rloo", "online_dpo")  # rows are prompts: the model answers while it trains, and `rewards:` judges the answers

_TEACHER = "it learns from a second model, for which a recipe has no place"
_RESEARCH = "it is research code of trl.experimental whose trainer was not tried with tuitune"
WHY_NOT = {
    **dict.fromkeys(("gkd", "gold", "distillation", "async_distillation", "server_distillation", "iw_opd"), _TEACHER),
    **dict.fromkeys(("sdft", "sdpo", "a2po", "gmpo"), _RESEARCH),
    "async_grpo": "it needs a vLLM server beside the run",
    "tpo": "it needs a third answer in every row",
    "ppo": "TRL has given it up; rloo and grpo train on rewards without a value model",
}
