"""The export job: a result as a folder that everybody loads (hf) or as one GGUF file, checked, with how to serve it beside it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuitune.after.gguf_file import convert, find_converter, inspect
from tuitune.after.merge import merge, source_of
from tuitune.after.merge_plan import failed_check, plan_merge, require_room, why_stale
from tuitune.after.prompts import prompts_of, token_ids
from tuitune.after.snippets import Served, snippets
from tuitune.after.source import Source
from tuitune.after.turns import Turns, take_apart
from tuitune.errors import UserError
from tuitune.files import write_atomically
from tuitune.preflight.model_files import AdapterFiles, locate_model
from tuitune.text import printable
from tuitune.trainer.device import look

if TYPE_CHECKING:
    from tuitune.after.job import Job


def run(job: "Job") -> dict[str, Any]:
    """The job: the merged model first where it is missing, then the file, the checks, the snippets."""
    args = job.args
    source = source_of(job)
    command = find_converter(args.get("converter")) if args["to"] == "gguf" else []
    job.state("running")
    model = whole_model(source, job)
    out = Path(args["out"])
    result: dict[str, Any] = {"path": str(model), "kind": "model"}
    if args["to"] == "gguf":
        job.progress(1, 3, "converting")
        convert(command, model, out, args["quant"], job.run.log / "converter.txt")
        result = {"path": str(out), "kind": "gguf", "bytes": out.stat().st_size, "model": str(model), "quant": args["quant"]}
        result |= check_gguf(source, model, out, args["quant"], job)
    if args["snippets"]:
        place = out.parent if args["to"] == "gguf" else model
        result["snippets"] = write_snippets(source, model, out if args["to"] == "gguf" else None, place, result)
    job.progress(3, 3, "exported")
    return result


def whole_model(source: Source, job: "Job") -> Path:
    """The folder of the whole model: the source's own, or its merge, made now unless the one that is there is of this very adapter."""
    if source.adapter is None:
        folder = locate_model({"name_or_path": source.base, "revision": source.revision})
        if folder is None:
            raise UserError(f"{source.words} is not on this box: fetch it first (hf download {printable(source.base)})")
        return folder
    plan = plan_merge(source, check=False)
    if why_stale(plan.out, source) is None:
        if why := failed_check(plan.out):
            job.warn(why)
        return plan.out
    require_room(plan)
    job.progress(0, 3, f"merging into {plan.out}")
    return Path(merge(source, plan)["path"])


def check_gguf(source: Source, model: Path, file: Path, quant: str, job: "Job") -> dict[str, Any]:
    """Template and stop tokens in the file, and whether it says what the folder says."""
    from tuitune.after import equivalence

    device = "cuda" if look(job.args.get("gpus") == "cpu").cuda else "cpu"
    tokenizer = equivalence.load_tokenizer(str(model))
    found = inspect(file, tokenizer)
    for problem in found["problems"]:
        job.warn(problem)
    if not job.args["check"]:
        return {"file": found}
    job.progress(2, 3, "comparing the file with the model")
    reference = equivalence.load_plain(str(model), device)
    prompts, origin = prompts_of(source.recipe, equivalence.PROMPTS)
    ids, stops = [token_ids(tokenizer, prompt) for prompt in prompts], equivalence.stop_ids(reference, tokenizer)
    said, layers = equivalence.speak(reference, ids, stops), equivalence.layer_count(reference)
    del reference
    try:
        read = equivalence.load_plain(str(file.parent), device, gguf_file=file.name)
    except (ValueError, NotImplementedError, KeyError) as error:
        said_why = printable(str(error), limit=160)
        if "is not supported" in str(error):  # of the architecture: that says nothing about this file
            why = f"the file is not compared: transformers reads no GGUF of this architecture ({said_why})"
            job.warn(why)
            return {"file": found, "check": None, "why_unchecked": why}
        words = f"transformers cannot read the file back ({said_why}): make it again, and look at what the converter printed"
        job.warn(words)
        return {"file": found, "check": {"passed": False, "words": words}}
    apart = equivalence.difference(said, equivalence.speak(read, ids, stops, said.answers))
    check = equivalence.judge(apart, equivalence.rounding_of(quant), layers) | {"data": origin}
    if not check["passed"]:
        job.warn(check["words"])
    return {"file": found, "check": check}


def write_snippets(source: Source, model: Path, gguf: Path | None, folder: Path, result: dict[str, Any]) -> list[str]:
    """Write how to serve it into `folder`; the files' paths."""
    from tuitune.after.equivalence import load_tokenizer

    tokenizer = load_tokenizer(str(model))

    def render(turns: Turns, ask: bool) -> str:
        text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=ask)
        return text

    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    adapter = AdapterFiles(source.adapter).config if source.adapter else {}
    about = result.get("file") or {}
    served = Served(
        name=source.name,
        base=source.base,
        adapter=source.adapter,
        merged=model,
        gguf=gguf,
        rank=adapter.get("r"),
        whole=bool(adapter.get("modules_to_save")),
        pieces=take_apart(render) if tokenizer.chat_template else None,
        stops=[stop for stop in dict.fromkeys([tokenizer.eos_token, *(about.get("stops") or {}).values()]) if stop],
        context=(config.get("text_config") or config).get("max_position_embeddings"),
        bos=(tokenizer.bos_token or "") if about.get("adds_bos") else "",
    )
    written = []
    for name, text in snippets(served).items():
        write_atomically(folder / name, text, mode=0o755 if name.endswith(".sh") else 0o644)
        written.append(str(folder / name))
    return written
