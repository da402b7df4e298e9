"""Send a push plan to the Hub, with huggingface_hub's own client. The token is the client's own affair: environment or `hf auth login`.

A push that was cut off is begun again by the same command: what lies there already, committed or only uploaded, is not sent again.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import CommitOperationAdd, HfApi, get_token, utils
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import RepoFile

from tuitune.after.ledger_facts import read_facts
from tuitune.after.push_plan import PushFile, PushPlan, plan_push
from tuitune.errors import UserError
from tuitune.files import file_hash
from tuitune.runs.directory import RunDirectory
from tuitune.secrets import MASK
from tuitune.text import printable

if TYPE_CHECKING:
    from tuitune.after.job import Job

ATTEMPTS = 4
WAIT_S = 2.0  # before the second attempt, twice as long before each further one
Progress = Callable[[int, int, str], None]
_client: Any = utils  # exports these functions without saying so to mypy


@dataclass(frozen=True)
class Pushed:
    """`sent`, `unchanged`: names; `others`: files of the repository that are not of this push; `notes`: sentences."""

    url: str
    commit: str
    private: bool
    sent: tuple[str, ...]
    unchanged: tuple[str, ...]
    others: tuple[str, ...]
    notes: tuple[str, ...] = ()


def run(job: "Job") -> dict[str, Any]:
    """The job: plan once more, as the folder is now, and send."""
    args = job.args
    facts = read_facts(RunDirectory(Path(args["run"]))) if args["run"] else None
    plan = plan_push(Path(args["folder"]), args["repo"], public=args["public"], base=args["base"], facts=facts)
    job.state("running")
    pushed = push(plan, message=args["message"], progress=job.progress, stopped=job.stopped)
    for note in (*pushed.notes, *([others_in_words(pushed.others)] if pushed.others else [])):
        job.warn(note)
    return {**asdict(pushed), "repo": plan.repo, "bytes": plan.bytes}


def push(
    plan: PushPlan,
    *,
    message: str | None = None,
    endpoint: str | None = None,
    progress: Progress = lambda done, total, what: None,
    stopped: Callable[[], bool] = lambda: False,
    wait: float = WAIT_S,
) -> Pushed:
    """Make the repository if it is missing and bring it to the state of the plan, in one commit. Blocks for as long as the line takes.

    UserError: no or a wrong token, no right to write, a repository that is public where a private one is wanted, a line that stays broken
    after four attempts, a stop.
    """
    if get_token() is None:
        raise UserError("there is no Hugging Face token: run `hf auth login`, or set HF_TOKEN for this command")
    _client.disable_progress_bars()
    api = HfApi(endpoint=endpoint)
    for attempt in range(ATTEMPTS):
        try:
            return _push(api, plan, message, progress, stopped)
        except HfHubHTTPError as error:
            status = getattr(error.response, "status_code", None)
            if not _passing(status) or attempt == ATTEMPTS - 1:
                raise UserError(_refused(plan.repo, status, error)) from None
        except (OSError, RuntimeError, ConnectionError, _transport()) as error:
            if (why := _status_below(error)) is not None and not _passing(why):
                raise UserError(_refused(plan.repo, why, error)) from None
            if attempt == ATTEMPTS - 1:
                raise UserError(
                    f"the line to the Hub broke {ATTEMPTS} times ({_reason(error)}); the same command goes on where this one was"
                ) from None
        progress(0, plan.bytes, f"the line broke; attempt {attempt + 2} of {ATTEMPTS}")
        time.sleep(wait * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def _push(api: HfApi, plan: PushPlan, message: str | None, progress: Progress, stopped: Callable[[], bool]) -> Pushed:
    notes = []
    api.create_repo(plan.repo, private=plan.private, exist_ok=True)
    about = api.repo_info(plan.repo)
    if plan.private and about.private is False:
        raise UserError(
            f"{plan.repo} exists and is public, and a push is private unless told otherwise: add --public, or name another repository"
        )
    if not plan.private and about.private:
        notes.append(f"{plan.repo} exists and is private, and stays so; make it public on the Hub")
    there = _there(api, plan)
    missing = [file for file in plan.files if there.get(file.name) != _digest(file, there.get(file.name, ""))]
    unchanged = tuple(file.name for file in plan.files if file not in missing)
    done, total = 0, sum(file.size for file in missing)
    operations = []
    for file in missing:
        if stopped():
            raise UserError("stopped; nothing is committed, and the same command goes on where this one was")
        progress(done, total, file.name)
        operation = CommitOperationAdd(file.name, file.source if isinstance(file.source, bytes) else str(file.source))
        if file.heavy:
            api.preupload_lfs_files(plan.repo, [operation], free_memory=False)
        operations.append(operation)
        done += file.size
    progress(done, total, "committing")
    if operations:
        about_it = message or f"{'Adapter' if plan.kind == 'adapter' else 'Model'}, pushed by tuitune"
        commit = api.create_commit(plan.repo, operations, commit_message=about_it).oid
    else:
        commit = str(about.sha)
    names = {file.name for file in plan.files}
    others = tuple(sorted(name for name in api.list_repo_files(plan.repo) if name not in names and name != ".gitattributes"))
    url = f"{api.endpoint}/{plan.repo}"
    return Pushed(url, commit, bool(about.private), tuple(file.name for file in missing), unchanged, others, tuple(notes))


def _there(api: HfApi, plan: PushPlan) -> Mapping[str, str]:
    """name → "sha256:…" or "blob:…" of what the repository has of the plan's files."""
    found = [entry for entry in api.get_paths_info(plan.repo, [file.name for file in plan.files]) if isinstance(entry, RepoFile)]
    return {entry.path: f"sha256:{entry.lfs.sha256}" if entry.lfs else f"blob:{entry.blob_id}" for entry in found}


def _digest(file: PushFile, like: str) -> str:
    """The file's hash of the kind that the repository tells of its own; "" when there is nothing to compare with."""
    if not like:
        return ""
    if like.startswith("sha256:"):
        return f"sha256:{hashlib.sha256(file.source).hexdigest() if isinstance(file.source, bytes) else file_hash(file.source)}"
    data = file.source if isinstance(file.source, bytes) else file.source.read_bytes()
    return "blob:" + hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # what Git calls it


def _passing(status: int | None) -> bool:
    """Whether a refusal may pass by itself: the server is busy or broken."""
    return status is None or status == 429 or status >= 500


def _status_below(error: BaseException | None) -> int | None:
    """The HTTP status in what caused an error: the client wraps those of its threads."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__
    return None


def _transport() -> Any:
    """The base class of the errors of the client's HTTP library, whose name differs between its versions."""
    session = type(_client.get_session())
    module = __import__(session.__module__.partition(".")[0])
    return module.HTTPError


def _refused(repo: str, status: int | None, error: BaseException) -> str:
    if status == 401:
        return "the Hub does not know this token (401): run `hf auth login` anew, or correct HF_TOKEN"
    if status == 403:
        return f"this token may not write to {repo} (403): make a token with write access at huggingface.co/settings/tokens"
    if status == 404:
        return f"the Hub has no place for {repo} (404): check the name; an organisation must exist and you be in it"
    return f"the Hub refuses {repo} ({status}): {_reason(error)}"


def _reason(error: BaseException) -> str:
    """The first line of an error; addresses in it may carry signatures, so that they are cut off."""
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return printable(" ".join(MASK if "://" in word and "?" in word else word for word in line.split()), limit=200)


def others_in_words(names: Sequence[str]) -> str:
    """What to say of files that lie in the repository and are not of this push."""
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"the repository also holds {printable(shown)}, which this push left as they are"
