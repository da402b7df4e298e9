"""The commands of a run's dashboard and of the runs table; their handlers are `action_…` methods of those views."""

from tuitune.workbench.commands.registry import Command

DASHBOARD_COMMANDS: tuple[Command, ...] = (
    Command("run.command", "Tell the run", ("colon",), "run", "command_bar", "Type a command as tuitune send takes it", True),
    Command("chart.next", "Next chart", ("tab",), "run", "next_chart", "The keys for charts go to the next one", True),
    Command("chart.previous", "Previous chart", ("shift+tab",), "run", "previous_chart", "The keys for charts go to the one before"),
    Command("chart.zoom_in", "Zoom in", ("plus", "equals_sign"), "run compare", "zoom_in", "Half as many steps over the same width"),
    Command("chart.zoom_out", "Zoom out", ("minus",), "run compare", "zoom_out", "Twice as many steps over the same width"),
    Command("chart.fit", "Show everything", ("0",), "run compare", "fit", "The whole run, following its newest step"),
    Command("chart.left", "Value to the left", ("left",), "run compare", "cursor_left", "Move the value cursor one column to the left"),
    Command(
        "chart.right", "Value to the right", ("right",), "run compare", "cursor_right", "Move the value cursor one column to the right"
    ),
    Command("chart.next_mark", "Next mark", ("right_square_bracket",), "run", "next_mark", "The value cursor to the next mark on the axis"),
    Command(
        "chart.previous_mark",
        "Mark before",
        ("left_square_bracket",),
        "run",
        "previous_mark",
        "The value cursor to the mark before: commands, checkpoints, evaluations, alarms, seams",
    ),
    Command("chart.log_scale", "Logarithmic scale", ("l",), "run compare", "log_scale", "Logarithmic or linear values"),
    Command("chart.smooth", "Smoothing", ("s",), "run compare", "smooth", "No, light, medium or strong smoothing of the line"),
    Command("chart.maximise", "Only this chart", ("m",), "run", "maximise_chart", "The active chart over the whole view, and back", True),
    Command(
        "chart.metric", "Another metric", ("o",), "run compare", "other_metric", "The next metric of the trainer in the active chart", True
    ),
    Command("chart.gpu", "Next GPU", ("g",), "run", "next_gpu", "The memory of the run's next GPU"),
    Command("run.log", "Log", ("t",), "run", "show_log", "What the trainer prints, and back to the charts", True),
    Command("run.config", "Effective config", ("c",), "run", "show_config", "Every value this run trains with and where it came from"),
    Command("run.events", "Events", ("e",), "run", "show_events", "Commands, checkpoints, evaluations and faults of this run"),
    Command("run.charts", "Charts", ("escape",), "run", "show_charts", "Back to the charts"),
    Command("run.queue", "Queue", ("q",), "run", "show_queue", "Commands of this run: what waits, and what was answered by whom"),
    Command("run.samples", "Samples", ("a",), "run", "show_samples", "What the model answers while it trains, beside the base model"),
    Command("run.slow", "Why slow", ("w",), "run", "show_slow", "What the time goes to, what that costs, and what to change"),
    Command("run.rate", "Set learning rate", ("r",), "run", "set_rate", "A rate from the next step on, and what it does from there"),
    Command("run.scheduler", "Set learning rate curve", (), "run", "set_scheduler", "Constant, linear or cosine from the present rate on"),
    Command("run.max_steps", "Set max_steps", (), "run", "set_max_steps", "The step after which the run ends"),
    Command("run.logging_steps", "Set logging_steps", (), "run", "set_logging_steps", "How often the trainer logs"),
    Command("run.save_steps", "Set save_steps", (), "run", "set_save_steps", "How often the trainer saves a checkpoint"),
    Command("run.eval_steps", "Set eval_steps", (), "run", "set_eval_steps", "How often the trainer evaluates"),
    Command("run.pause", "Pause or go on", ("p",), "run", "pause_run", "Pause after the current step: keep, trim or free the GPU's memory"),
    Command(
        "run.resume", "Resume the run", ("f5", "ctrl+r"), "run runs", "resume", "Go on after a pause, or after the end with a new attempt"
    ),
    Command("run.save", "Save a checkpoint now", ("k",), "run", "save_checkpoint", "Ask the trainer to save after its current step"),
    Command("run.evaluate", "Evaluate now", ("v",), "run", "evaluate", "Ask the trainer to evaluate after its current step"),
    Command(
        "run.evaluate_model",
        "Evaluate the model",
        (),
        "run runs",
        "evaluate_model",
        "Its losses or answers on dataset.eval and on general texts, beside the base model, as a report",
    ),
    Command("run.open_report", "Open the evaluation", (), "run runs", "open_report", "The newest report of an evaluation of this run"),
    Command("run.sample", "Sample now", ("n",), "run", "sample_now", "Let the model answer the run's prompts, or another one"),
    Command("run.reshape", "Set batch and accumulation", ("b",), "run", "reshape", "Rows per device × accumulation from the next step on"),
    Command("run.alarm", "Do what the alarm proposes", ("y",), "run", "apply_alarm", "Send the command that the newest alarm proposes"),
    Command("run.snapshot", "GPU memory snapshot", (), "run", "snapshot", "Write every allocation on the GPU into the run directory"),
    Command("run.stacks", "Dump stacks", (), "run", "stacks", "Write where each of the trainer's threads is into its log"),
    Command("run.kill", "Kill the run", (), "run", "kill_run", "End trainer and hub at once; nothing is saved"),
    Command("run.merge", "Merge the adapter …", (), "run runs", "merge_run", "The adapter in 16 bits into its base, and the check of it"),
    Command("run.export", "Export the model …", (), "run runs", "export_run", "A model's folder or a GGUF file, and how to serve it"),
    Command(
        "run.push", "Push to the Hub …", (), "run runs", "push_run", "Adapter and model card to the Hub, private, after a look at the files"
    ),
)
TABLE_COMMANDS: tuple[Command, ...] = (
    Command("runs.open", "Open the run", ("enter",), "runs", "open_run", "The dashboard of the run under the cursor", True),
    Command(
        "runs.mark", "Mark the run", ("space",), "runs", "mark_run", "Mark the run under the cursor for a comparison, or no more", True
    ),
    Command(
        "runs.compare", "Compare runs", ("c",), "runs", "compare_runs", "The marked runs beside each other: curves and differences", True
    ),
)
COMPARE_COMMANDS: tuple[Command, ...] = tuple(command for command in DASHBOARD_COMMANDS if command.holds("compare"))
COMMANDS = DASHBOARD_COMMANDS + TABLE_COMMANDS
