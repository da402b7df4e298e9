"""`tuitune inspect` against TRL alone: ids and labels on real tokenizers, every shape of data, every loss and packing mode.

    python -m tests.bench.real_tokenizers [--only NAME,…] [--shapes SHAPE,…] [--quick]     JSON on stdout; exit 1 on a difference

Two workers a tokenizer, side by side: one has never imported tuitune, one asks tuitune. Each loads the tokenizer once and forks a process
for every case, so that no case sees what another did to it. The reference names its data sets at random instead of by their hash, which
only costs time (`--hash` keeps it: minutes for a tokenizer of 256k tokens).
"""

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.inspected_rows import inspected, sequences, write_recipe
from tests.support.real_tokenizers import TOKENIZERS, Unreachable, folder_of
from tests.support.varied_rows import SHAPES, Shape, write_rows

LOSSES: dict[str, dict[str, Any]] = {
    "completion": {"completion_only_loss": True},
    "assistant": {"assistant_only_loss": True},
    "all": {"completion_only_loss": False},
}
PACKINGS: dict[str, dict[str, Any]] = {
    "no packing": {},
    **{strategy: {"packing": True, "packing_strategy": strategy} for strategy in ("bfd", "bfd_split", "wrapped")},
}
LENGTH = 64
PAIR_LENGTHS = (24, 96)
REASON = 560  # characters of TRL's reason that a refusal must repeat; tuitune cuts what is longer

Answer = dict[str, Any]  # {"sequences": …} or {"refused": …}, for tuitune with its counts of unknown tokens


@dataclass(frozen=True)
class Case:
    """One way of training on one file."""

    name: str
    shape: Shape
    training: Mapping[str, Any]


def cases(shapes: Sequence[str] = tuple(SHAPES)) -> list[Case]:
    """Every shape with every loss and packing; preference pairs know neither and are cut by the collator."""
    found = []
    for shape in (SHAPES[name] for name in shapes):
        if shape.task == "dpo":
            found += [Case(f"{shape.name}, max_length {length}", shape, {"max_length": length}) for length in PAIR_LENGTHS]
            continue
        for loss, says in LOSSES.items():
            for packing, more in PACKINGS.items():
                found.append(Case(f"{shape.name}, {loss}, {packing}", shape, {"max_length": LENGTH, **says, **more}))
    return found


def fewer(wanted: Sequence[Case], part: int, parts: int) -> list[Case]:
    """One part of a smaller matrix: over all parts every shape meets every packing, and each of both every loss."""
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in wanted:
        shape, *_, packing = case.name.split(", ")
        groups.setdefault((shape, packing), []).append(case)
    pairs = list(groups.values())
    return [pair[(at + at // len(PACKINGS)) % len(pair)] for at, pair in enumerate(pairs) if at % parts == part]


def ask_trl(model: Path, rows: Path, case: Case) -> Answer:
    """TRL alone."""
    from tests.support.reference_rows import reference

    assert not any(name.partition(".")[0] == "tuitune" for name in sys.modules), "the reference imports nothing of tuitune"
    try:
        return {"sequences": reference(model, rows / f"{case.shape.name}.jsonl", case.shape.task, case.shape.columns, case.training)}
    except Exception as error:
        return {"refused": " ".join(str(error).split()), "type": type(error).__name__}


def ask_tuitune(model: Path, rows: Path, case: Case) -> Answer:
    """The JSON document of `tuitune inspect`."""
    from tuitune.errors import UserError

    with tempfile.TemporaryDirectory() as folder:
        file = rows / f"{case.shape.name}.jsonl"
        recipe = write_recipe(Path(folder) / "recipe.yaml", model, file, case.shape.task, case.shape.columns, case.training)
        try:
            document = inspected(recipe)
        except UserError as error:
            return {"refused": str(error)}
        except Exception:
            return {"crashed": traceback.format_exc()}
    tokens = [token for row in document["rows"] for sequence in row["sequences"] for token in sequence["tokens"]]
    unknown = {name: sum("unknown" in token[name] for token in tokens) for name in ("role", "source")}
    return {"sequences": sequences(document), "tokens": len(tokens), "unknown": unknown}


def answers(ask: Callable[[Path, Path, Case], Answer], model: Path, rows: Path, wanted: Sequence[Case], into: Path) -> None:
    """A worker: every case in a process of its own, one line of `into` each."""
    import transformers

    if ask is ask_tuitune:
        _warm_up(ask, model, rows, wanted)
    loaded = transformers.AutoTokenizer.from_pretrained(model)
    transformers.AutoTokenizer.from_pretrained = lambda *_, **__: loaded  # type: ignore[method-assign]
    for case in wanted:
        pid = os.fork()
        if pid == 0:
            started = time.monotonic()
            line = json.dumps({"case": case.name, **ask(model, rows, case), "seconds": time.monotonic() - started})
            with into.open("a") as file:
                file.write(line + "\n")
            os._exit(0)
        os.waitpid(pid, 0)


def _warm_up(ask: Callable[[Path, Path, Case], Answer], model: Path, rows: Path, wanted: Sequence[Case]) -> None:
    """One case a task: what is imported late and kept from then on."""
    for case in {case.shape.task: case for case in wanted}.values():
        ask(model, rows, case)


def _name_at_random() -> None:
    import datasets

    for module in (datasets.arrow_dataset, datasets.fingerprint):
        module.update_fingerprint = lambda *_: datasets.fingerprint.generate_random_fingerprint()


def verdict(truth: Answer | None, ours: Answer | None) -> str:
    """ "equal", "refused" (by both, with TRL's reason) or what is different."""
    if truth is None or ours is None or "crashed" in ours:
        return "tuitune: " + ours["crashed"] if ours and "crashed" in ours else "no answer from " + ("TRL" if truth is None else "tuitune")
    if "refused" in truth:
        if "refused" not in ours:
            return f"tuitune shows what TRL refuses: {truth['refused']}"
        return "refused" if truth["refused"][:REASON] in ours["refused"] else f"TRL: {truth['refused']} / tuitune: {ours['refused']}"
    if "refused" in ours:
        return f"tuitune refuses what TRL trains on: {ours['refused']}"
    if len(truth["sequences"]) != len(ours["sequences"]):
        return f"{len(truth['sequences'])} sequences, tuitune has {len(ours['sequences'])}"
    pairs = zip(truth["sequences"], ours["sequences"])
    return next((f"sequence {at}: {one} / tuitune: {other}" for at, (one, other) in enumerate(pairs) if one != other), "equal")


def compare(name: str, wanted: Sequence[Case], *, first: bool) -> dict[str, Any]:
    """Counts and differences of one tokenizer; the `first` warms this process up. Unreachable when it cannot be had."""
    model, started = folder_of(name), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder)
        write_rows(rows)
        if first:
            _warm_up(ask_trl, model, rows, wanted)
        workers = {}
        for ask in (ask_trl, ask_tuitune):
            pid = os.fork()
            if pid == 0:
                try:
                    answers(ask, model, rows, wanted, rows / ask.__name__)
                finally:
                    os._exit(0)
            workers[ask.__name__] = pid
        for pid in workers.values():
            os.waitpid(pid, 0)
        truth, ours = (_read(rows / ask) for ask in workers)
    found = {case.name: verdict(truth.get(case.name), ours.get(case.name)) for case in wanted}
    counts = Counter(kind if kind in ("equal", "refused") else "different" for kind in found.values())
    reasons = Counter(f"{answer['type']}: {answer['refused'][:200]}" for answer in truth.values() if "refused" in answer)
    return {
        **{kind: counts[kind] for kind in ("equal", "refused", "different")},
        "differences": {case: kind[:2000] for case, kind in found.items() if kind not in ("equal", "refused")},
        "refusals": dict(reasons),
        "unknown": _unknown(ours),
        "seconds": round(time.monotonic() - started, 1),
        "seconds_inspect": round(sum(answer["seconds"] for answer in ours.values()), 1),
    }


def _read(file: Path) -> dict[str, Answer]:
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return {line["case"]: line for line in lines}


def _unknown(ours: Mapping[str, Answer]) -> dict[str, Any]:
    """Share of tokens whose role or source is unknown, in all and by shape, over the cases without packing."""
    told: dict[str, Any] = {}
    for shape in ("", *SHAPES):
        mine = [answer for case, answer in ours.items() if case.startswith(shape) and "tokens" in answer]
        if count := sum(answer["tokens"] for answer in mine):
            told[shape or "all"] = {name: round(sum(answer["unknown"][name] for answer in mine) / count, 4) for name in ("role", "source")}
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(TOKENIZERS), help=f"tokenizers, comma separated: {', '.join(TOKENIZERS)}")
    parser.add_argument("--shapes", default=",".join(SHAPES), help=f"shapes of data, comma separated: {', '.join(SHAPES)}")
    parser.add_argument("--quick", action="store_true", help="every pair of shape and packing once, shared among the tokenizers")
    parser.add_argument("--hash", action="store_true", help="the reference hashes its data sets, as TRL does by itself")
    arguments = parser.parse_args()
    import_all()
    if not arguments.hash:
        _name_at_random()
    found: dict[str, Any] = {}
    names, every = arguments.only.split(","), cases(arguments.shapes.split(","))
    for part, name in enumerate(names):
        try:
            found[name] = compare(name, fewer(every, part, len(names)) if arguments.quick else every, first=not found)
        except Unreachable as error:
            found[name] = {"unreachable": str(error)}
        told = {key: found[name].get(key) for key in ("equal", "refused", "different", "unreachable", "seconds")}
        print(name, json.dumps(told), file=sys.stderr, flush=True)
    sums = {kind: sum(one.get(kind, 0) for one in found.values()) for kind in ("equal", "refused", "different")}
    print(json.dumps({"schema": 1, "totals": sums, "tokenizers": found}, indent=1))
    return 1 if sums["different"] or not sums["equal"] else 0


def import_all() -> None:
    """What both sides need, once, before the forks; nothing of tuitune."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # threads do not survive a fork
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    warnings.simplefilter("ignore")
    import datasets
    import torch
    import transformers
    import trl

    torch.set_num_threads(1)
    for module, names in ((trl, ("SFTTrainer", "SFTConfig", "DPOTrainer", "DPOConfig")), (transformers, ("AutoModelForCausalLM",))):
        for name in names:  # both import lazily
            getattr(module, name)
    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()


if __name__ == "__main__":
    sys.exit(main())
