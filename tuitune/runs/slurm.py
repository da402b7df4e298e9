"""The batch script that runs a recipe on a SLURM cluster: the hub on the job's first node, watched and steered from the login node.

SLURM's warning before the time limit makes the run save and stop, and the job queue itself again; the next time it goes on from there. The
login node needs nothing but the shared disk: `tuitune attach RUN` reads the journal, `tuitune send RUN …` leaves command files.
"""

import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from tuitune.errors import UserError
from tuitune.recipe.devices import wants_cpu
from tuitune.recipe.recipe import Recipe
from tuitune.recipe.strategy import nodes_of

WARNING_S = 300  # seconds before the time limit; a large checkpoint takes minutes
OURS = ("job-name", "nodes", "ntasks", "ntasks-per-node", "signal", "requeue", "open-mode")  # options that the script depends on

SCRIPT = """\
#!/bin/bash
{options}
set -u
tuitune() {{ {tuitune} "$@"; }}
cd {workspace} || exit 1
[ -z "${{SLURM_CPUS_PER_TASK:-}}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK  # srun has not taken it from sbatch since 22.05
mkdir -p runs

# Which run this job trains, kept for when the job has been queued again.
kept=runs/.slurm-$SLURM_JOB_ID
if [ -s "$kept" ]; then
    run=$(cat "$kept")
    tuitune resume "$run" --detach || exit
else
    started=$(tuitune train {recipe} --detach --json) || exit
    run=$(printf '%s' "$started" | {python} -c 'import json, sys; print(json.load(sys.stdin)["path"])')
    printf '%s\\n' "$run" > "$kept"
fi
echo "watch it from anywhere: cd {workspace} && tuitune attach $run"

# SLURM warns {warning} s before it ends the job: save, stop, and queue again.
again=
warned() {{ again=1; tuitune send "$run" stop save=true; }}
trap warned USR1

tuitune attach "$run" --plain &
watcher=$!
while :; do
    wait "$watcher"
    code=$?
    kill -0 "$watcher" 2>/dev/null || break  # a signal ends `wait`, not what is waited for
done
if [ -n "$again" ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def script(recipe: Recipe, workspace: Path) -> str:
    """The script for a recipe started in the folder `workspace`. UserError for options that sbatch does not take or the script sets."""
    launch = recipe.launch
    nodes = nodes_of(launch)
    wanted = launch.get("slurm") or {}
    options: dict[str, object] = {
        "job-name": recipe.name,
        "nodes": nodes,
        "ntasks": nodes,
        **({"ntasks-per-node": 1} if nodes > 1 else {}),
        "signal": f"B:USR1@{WARNING_S}",
        "requeue": True,
        "open-mode": "append",
        "output": "runs/slurm-%j.txt",
    }
    if not wants_cpu(launch, recipe.training):
        options["gpus-per-node"] = 1 if launch.get("gpus") in (None, "auto") else launch["gpus"]
    options |= _checked(recipe, wanted)
    file = recipe.file.resolve()
    named = file.relative_to(workspace.resolve()) if file.is_relative_to(workspace.resolve()) else file
    return SCRIPT.format(
        options="\n".join(_option(name, value) for name, value in options.items()),
        tuitune=shlex.join([sys.executable, "-m", "tuitune"]),
        python=shlex.quote(sys.executable),
        workspace=shlex.quote(str(workspace.resolve())),
        recipe=shlex.quote(str(named)),
        warning=WARNING_S,
    )


def _checked(recipe: Recipe, wanted: Mapping[str, object]) -> dict[str, object]:
    """`launch.slurm` by the names of sbatch's options; null leaves one out."""
    found: dict[str, object] = {}
    for key, value in wanted.items():
        name = str(key).replace("_", "-")
        place = f"{recipe.file}:{recipe.line('launch', 'slurm', str(key))}: launch.slurm.{key}"
        if not re.fullmatch(r"[a-z][a-z-]*", name):
            raise UserError(f"{place} is no option of sbatch; write its long name, like partition or cpus-per-task")
        if name in OURS:
            raise UserError(f"{place} is set by the script, which depends on it; remove it")
        if isinstance(value, list | dict) or "\n" in str(value):
            raise UserError(f"{place} takes one value on one line")
        found[name] = value
    return found


def _option(name: str, value: object) -> str:
    if value is True:
        return f"#SBATCH --{name}"
    return f"##SBATCH --{name} is left out" if value in (None, False) else f"#SBATCH --{name}={_quoted(str(value))}"


def _quoted(text: str) -> str:
    """sbatch reads its lines with a shell's quotes."""
    return text if re.fullmatch(r"[\w@%+=:,./-]*", text) else shlex.quote(text)
