"""A Hub that takes uploads: the stand-in of tests/support/hub.py with repositories to make and commits to write.

What the real one's HTTP API answers to huggingface_hub's client: create, preupload, LFS batch, upload, verify, commit. `token` is the one
it knows. `broken`: a list of paths' beginnings; a request for one is cut off once in the middle of its answer. `busy`: the same with 503.
"""

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.support.hub import HubServer, _entry, _files, _handler, commit_of

TOKEN = "hf_" + "StandInOfTheHub" + "0123456789"
LFS_ENDINGS = (".safetensors", ".gguf", ".bin", ".model")


class WritableHub(HubServer):
    """Use as HubServer; `private` says of each repository whether it is, `commits` what each commit brought, `uploads` the LFS uploads."""

    def __init__(self, root: Path, token: str = TOKEN) -> None:
        super().__init__(root)
        self.token = token
        self.private: dict[str, bool] = {}
        self.commits: list[dict[str, Any]] = []
        self.uploads: list[str] = []
        self.broken: list[str] = []
        self.busy: list[str] = []
        self.readonly = False
        self.objects = root / "objects"
        self.objects.mkdir(parents=True, exist_ok=True)
        self._server.RequestHandlerClass = _writing(self)

    def environment(self, home: Path) -> dict[str, str]:
        return {**super().environment(home), "HF_TOKEN": self.token}

    def repo(self, name: str) -> Path:
        return self.root / "models" / name

    def names(self, repo: str) -> list[str]:
        return [str(path.relative_to(self.repo(repo))) for path in _files(self.repo(repo))]


def _writing(hub: WritableHub) -> type[BaseHTTPRequestHandler]:
    reading: Any = _handler(hub)

    class Handler(reading):  # type: ignore[misc]
        def do_POST(self) -> None:
            self.take("POST")

        def do_PUT(self) -> None:
            self.take("PUT")

        def do_GET(self) -> None:
            if self.allowed():
                self.look()

        def do_HEAD(self) -> None:
            if self.allowed():
                super().do_HEAD()

        def look(self) -> None:
            words = self.words()
            if words[:2] == ["api", "models"] and (len(words) == 4 or words[4] == "revision"):
                name = "/".join(words[2:4])
                if name not in hub.private:
                    return self.missing("RepoNotFound")
                hub.requests.append(f"GET {self.path}")
                names = [{"rfilename": each} for each in hub.names(name)]
                about = {"id": name, "sha": commit_of(hub.repo(name)), "siblings": names, "private": hub.private[name]}
                return self.reply({**about, "gated": False, "tags": [], "createdAt": "2026-01-01T00:00:00.000Z"})
            super().do_GET()

        def words(self) -> list[str]:
            return [unquote(word) for word in urlsplit(self.path).path.strip("/").split("/")]

        def allowed(self) -> bool:
            if self.headers.get("Authorization") == f"Bearer {hub.token}" or self.path.startswith("/lfs/"):
                return True
            self.fail(401, "Invalid credentials in Authorization header")
            return False

        def take(self, verb: str) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            if self.cut(hub.broken):
                self.rfile.read(length // 2)
                self.close_connection = True
                self.connection.close()
                return
            data = self.read_body(length)
            if self.cut(hub.busy):
                return self.fail(503, "busy")
            if not self.allowed():
                return
            hub.requests.append(f"{verb} {self.path}")
            self.write(self.words(), data)

        def cut(self, which: list[str]) -> bool:
            found = next((each for each in which if each in self.path), None)
            if found is not None:
                which.remove(found)
            return found is not None

        def read_body(self, length: int) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(length)
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data

        def write(self, words: list[str], data: bytes) -> None:
            if words == ["api", "repos", "create"]:
                return self.create(json.loads(data))
            if words == ["api", "validate-yaml"]:
                return self.reply({"errors": [], "warnings": []})
            if words[0] == "lfs":
                return self.upload(words[1], data)
            if words[-3:] == ["lfs", "objects", "batch"]:
                return self.batch(json.loads(data))
            name, what = "/".join(words[2:4]), words[4]
            if name not in hub.private:
                return self.missing("RepoNotFound")
            if what == "preupload":
                return self.preupload(name, json.loads(data))
            if what == "commit":
                return self.commit(name, [json.loads(line) for line in data.splitlines()])
            if what == "paths-info":
                body = json.loads(data) if data.startswith(b"{") else {"paths": _form(data)}
                found = [hub.repo(name) / each for each in body["paths"] if (hub.repo(name) / each).is_file()]
                return self.reply([_known(hub.repo(name), path) for path in found])
            self.missing("EntryNotFound")

        def create(self, body: dict[str, Any]) -> None:
            if hub.readonly:
                return self.fail(403, "You don't have the rights to create a model under this namespace")
            name = f"{body['organization']}/{body['name']}"
            if name in hub.private:
                return self.fail(409, "You already created this model repo", {"url": f"{hub.endpoint}/{name}"})
            hub.private[name] = body.get("visibility") == "private" or body.get("private") is True
            hub.repo(name).mkdir(parents=True, exist_ok=True)
            self.reply({"url": f"{hub.endpoint}/{name}", "name": name, "id": name})

        def preupload(self, name: str, body: dict[str, Any]) -> None:
            files = []
            for file in body["files"]:
                path = hub.repo(name) / file["path"]
                mode = "lfs" if file["path"].endswith(LFS_ENDINGS) else "regular"
                known = _known(hub.repo(name), path) if path.is_file() else {}
                oid = known.get("lfs", {}).get("oid") or known.get("oid")
                files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
            self.reply({"files": files})

        def batch(self, body: dict[str, Any]) -> None:
            objects = []
            for each in body["objects"]:
                entry = {"oid": each["oid"], "size": each["size"], "authenticated": True}
                if not (hub.objects / each["oid"]).exists():
                    entry["actions"] = {
                        "upload": {"href": f"{hub.endpoint}/lfs/{each['oid']}?X-Signature=signed", "header": {}},
                        "verify": {"href": f"{hub.endpoint}/lfs/{each['oid']}/verify", "header": {}},
                    }
                objects.append(entry)
            self.reply({"transfer": "basic", "objects": objects})

        def upload(self, oid: str, data: bytes) -> None:
            if self.command == "PUT":
                if hashlib.sha256(data).hexdigest() != oid:
                    return self.fail(400, "hash mismatch")
                (hub.objects / oid).write_bytes(data)
                hub.uploads.append(oid)
            self.reply({})

        def commit(self, name: str, lines: list[dict[str, Any]]) -> None:
            brought = {"repo": name, "message": lines[0]["value"]["summary"], "files": []}
            for line in lines[1:]:
                value = line["value"]
                path = hub.repo(name) / value["path"]
                data = base64.b64decode(value["content"]) if line["key"] == "file" else (hub.objects / value["oid"]).read_bytes()
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                brought["files"].append(value["path"])
            hub.commits.append(brought)
            oid = commit_of(hub.repo(name))
            self.reply({"commitUrl": f"{hub.endpoint}/{name}/commit/{oid}", "commitOid": oid, "hookOutput": ""})

        def fail(self, status: int, text: str, more: dict[str, Any] | None = None) -> None:
            self.send_response(status)
            self.send_header("X-Error-Message", text)
            self.body(json.dumps({"error": text, **(more or {})}).encode(), "application/json")

    return Handler


def _form(data: bytes) -> list[str]:
    from urllib.parse import parse_qs

    return parse_qs(data.decode()).get("paths", [])


def _known(folder: Path, path: Path) -> dict[str, Any]:
    """A file as the Hub lists it: Git's name of it, and of large ones the sha256."""
    data, entry = path.read_bytes(), _entry(folder, path)
    entry["oid"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    if path.name.endswith(LFS_ENDINGS):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry
