"""A stand-in for the Hugging Face hub: the endpoints that huggingface_hub calls to make a model
repository, to upload files to it, and to download them. Written from its client's requests."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    """Files of the branch main, and the messages of its commits."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)

    @property
    def sha(self) -> str:
        return hashlib.sha1(repr((len(self.commits), sorted(self.files))).encode()).hexdigest()


@dataclass
class Hub:
    """What the server has, and its address.

    Attributes:
        tokens: token -> the names of users and organisations for whom it may write.
        requests: method and path of each, in order.
    """

    tokens: dict[str, list[str]]
    repositories: dict[str, Repository] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    port: int = 0  # chosen by the first start
    server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Refuse connections until the next start."""
        assert self.server is not None
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._handle()

    do_HEAD = do_POST = do_PUT = do_GET

    def _handle(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.known = token in self.hub.tokens
        self.names = self.hub.tokens.get(token, [])
        if token and not self.known:
            return self._json({"error": "Invalid credentials in Authorization header"}, 401)
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts == ["api", "validate-yaml"]:
            return self._json({"errors": [], "warnings": []})
        if parts == ["api", "repos", "create"]:
            return self._create()
        if parts[0] == "upload":
            self.hub.uploads[parts[1]] = self.body
            return self._json({})
        if parts[:2] == ["api", "models"]:
            name, rest = "/".join(parts[2:4]), parts[4:]
        else:
            name, rest = "/".join(parts[:2]).removesuffix(".git"), parts[2:]
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and name.split("/")[0] not in self.names):
            status = 404 if self.known else 401
            return self._json({"error": "Repository not found"}, status, "RepoNotFound")
        kind = rest[0] if rest else "revision"
        revision = rest[1] if len(rest) > 1 else "main"
        reading = kind in ("revision", "tree", "resolve")
        if reading and revision not in ("main", repository.sha):
            return self._json({"error": "Invalid rev id"}, 404, "RevisionNotFound")
        if not reading and name.split("/")[0] not in self.names:
            return self._json({"error": "You have no rights to write here"}, 403)
        if kind == "resolve":
            return self._file(repository, "/".join(rest[2:]))
        answer = {"revision": self._info, "tree": self._tree, "preupload": self._preupload}
        answer |= {"info": self._batch, "commit": self._commit}
        self._json(answer[kind](name, repository))

    def _json(self, content: Any, status: int = 200, code: str | None = None) -> None:
        headers = {"Content-Type": "application/json"}
        self._send(
            json.dumps(content).encode(), status, headers | ({"X-Error-Code": code} if code else {})
        )

    def _send(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _create(self) -> None:
        given = json.loads(self.body)
        name = f"{given['organization']}/{given['name']}"
        if given["organization"] not in self.names:
            status = 403 if self.known else 401
            return self._json({"error": f"You can't create {name}"}, status)
        url = f"{self.hub.url}/{name}"
        if name in self.hub.repositories:
            return self._json({"error": "You already created this model repo", "url": url}, 409)
        private = given.get("visibility") == "private" or given.get("private") is True
        self.hub.repositories[name] = Repository(private)
        self._json({"url": url})

    def _file(self, repository: Repository, path: str) -> None:
        if path not in repository.files:
            return self._json({"error": "Entry not found"}, 404, "EntryNotFound")
        content = repository.files[path]
        etag = hashlib.sha256(content).hexdigest()
        self._send(content, 200, {"ETag": f'"{etag}"', "X-Repo-Commit": repository.sha})

    @staticmethod
    def _info(name: str, repository: Repository) -> Any:
        siblings = [{"rfilename": path} for path in sorted(repository.files)]
        facts = {"id": name, "sha": repository.sha, "private": repository.private}
        return {**facts, "siblings": siblings, "tags": []}

    @staticmethod
    def _tree(name: str, repository: Repository) -> Any:
        return [
            {"type": "file", "path": path, "size": len(x), "oid": hashlib.sha1(x).hexdigest()}
            for path, x in repository.files.items()
        ]

    def _preupload(self, name: str, repository: Repository) -> Any:
        def mode(path: str) -> str:
            return "lfs" if path.endswith(".safetensors") else "regular"

        paths = [file["path"] for file in json.loads(self.body)["files"]]
        return {"files": [{"path": p, "uploadMode": mode(p), "shouldIgnore": False} for p in paths]}

    def _batch(self, name: str, repository: Repository) -> Any:
        def action(oid: str, size: int) -> dict[str, Any]:
            href = {"href": f"{self.hub.url}/upload/{oid}"}
            return {"oid": oid, "size": size, "actions": {"upload": href}}

        objects = json.loads(self.body)["objects"]
        return {"objects": [action(item["oid"], item["size"]) for item in objects]}

    def _commit(self, name: str, repository: Repository) -> Any:
        for line in self.body.splitlines():
            item = json.loads(line)
            kind, value = item["key"], item["value"]
            if kind == "header":
                repository.commits.append(value["summary"])
            elif kind == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                content = self.hub.uploads[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
                repository.files[value["path"]] = content
            else:
                assert kind == "deletedFile"
                del repository.files[value["path"]]
        url = f"{self.hub.url}/{name}/commit/{repository.sha}"
        return {"success": True, "commitOid": repository.sha, "commitUrl": url}
