"""A server on 127.0.0.1 that answers like the Hugging Face Hub, over folders on disk, for tests without a network.

`HubServer(root)` serves `root/models/ORG/NAME/…` and `root/datasets/ORG/NAME/…` to the real huggingface_hub, transformers and
datasets clients; point them at it with the environment that `environment()` returns. Any revision name answers with the one there is.
"""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


class HubServer:
    """Use as a context manager; `requests` is what was asked for, in order."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.requests: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """Variables that make a client use this server and nothing else; `home` takes its cache."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    def folder(self, kind: str, repo: str) -> Path | None:
        """The folder of a repository, or None."""
        folder = self.root / kind / repo
        return folder if folder.is_dir() else None


def commit_of(folder: Path) -> str:
    """A stand-in for the commit hash: 40 hex digits that change with the files' names and sizes."""
    listing = [f"{path.relative_to(folder)}:{path.stat().st_size}" for path in _files(folder)]
    return hashlib.sha1("\n".join(listing).encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _entry(folder: Path, path: Path) -> dict[str, Any]:
    digest = hashlib.sha1(path.read_bytes()).hexdigest()
    return {"type": "file", "path": str(path.relative_to(folder)), "size": path.stat().st_size, "oid": digest}


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.answer(json.loads(body) if body.startswith(b"{") else {})

        def answer(self, body: dict[str, Any] | None = None) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            words = [unquote(word) for word in urlsplit(self.path).path.strip("/").split("/")]
            if words[0] == "api" and len(words) >= 4:
                self.api(words[1], f"{words[2]}/{words[3]}", words[4:], body or {})
            elif "resolve" in words:
                kind = words[0] if words[0] == "datasets" else "models"
                repo = words[1:3] if kind == "datasets" else words[:2]
                self.resolve(kind, "/".join(repo), "/".join(words[words.index("resolve") + 2 :]))
            else:
                self.missing("EntryNotFound")

        def api(self, kind: str, repo: str, rest: list[str], body: dict[str, Any]) -> None:
            folder = hub.folder(kind, repo)
            if folder is None:
                return self.missing("RepoNotFound")
            if rest and rest[0] == "tree":
                below = folder / "/".join(rest[2:])
                return self.reply([_entry(folder, path) for path in _files(below)]) if below.exists() else self.missing("EntryNotFound")
            if rest and rest[0] == "paths-info":
                found = [folder / name for name in body.get("paths", []) if (folder / name).is_file()]
                return self.reply([_entry(folder, path) for path in found])
            names = [{"rfilename": str(path.relative_to(folder))} for path in _files(folder)]
            return self.reply({"id": repo, "sha": commit_of(folder), "siblings": names, "private": False, "gated": False, "tags": []})

        def resolve(self, kind: str, repo: str, name: str) -> None:
            folder = hub.folder(kind, repo)
            if folder is None:
                return self.missing("RepoNotFound")
            path = (folder / name).resolve()
            if not path.is_file() or folder.resolve() not in path.parents:
                return self.missing("EntryNotFound", commit_of(folder))
            data = path.read_bytes()
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", commit_of(folder))
            self.body(data, "application/octet-stream")

        def reply(self, document: object) -> None:
            self.send_response(200)
            self.body(json.dumps(document).encode(), "application/json")

        def missing(self, code: str, commit: str | None = None) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
            if commit:
                self.send_header("X-Repo-Commit", commit)
            self.body(json.dumps({"error": code}).encode(), "application/json")

        def body(self, data: bytes, kind: str) -> None:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    return Handler
