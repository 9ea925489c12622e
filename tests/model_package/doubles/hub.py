"""A stand-in of the model hub: the few routes over which huggingface_hub fetches a repository."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "5" * 40
GATED = "somebody/gated"


class Hub:
    """Repositories by name; notes which files were fetched and with which token."""

    def __init__(self, repositories):
        self.repositories = repositories
        self.fetched: list[str] = []
        self.tokens: set[str | None] = set()
        self.address = ""

    @contextmanager
    def serve(self):
        hub = self

        class Handler(_Handler):
            def __init__(self, *arguments):
                self.hub = hub
                super().__init__(*arguments)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield self
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self):
        self.hub.tokens.add(self.headers.get("Authorization"))
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self.describe("/".join(parts[2:4]), parts[4:])
        else:
            self.resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

    def do_HEAD(self):
        self.do_GET()

    def describe(self, name, rest):
        folder = self.hub.repositories.get(name)
        if folder is None:
            return self.refuse(401, "RepoNotFound")  # as for a private one
        if len(rest) > 1 and rest[1] not in {"main", COMMIT}:
            return self.refuse(404, "RevisionNotFound")
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        names = [path.relative_to(folder).as_posix() for path in files]
        if rest[:1] == ["tree"]:
            entry = {"type": "file", "oid": "0" * 40}
            sizes = zip(names, files, strict=True)
            return self.send_json(
                [{**entry, "path": name, "size": path.stat().st_size} for name, path in sizes]
            )
        siblings = [{"rfilename": name} for name in names]
        return self.send_json({"id": name, "sha": COMMIT, "siblings": siblings})

    def resolve(self, name, revision, path):
        if name == GATED:
            return self.refuse(401, "GatedRepo")
        if revision not in {"main", COMMIT}:
            return self.refuse(404, "RevisionNotFound")
        content = (self.hub.repositories[name] / path).read_bytes()
        if self.command == "GET":
            self.hub.fetched.append(path)
        etag = hashlib.sha256(content).hexdigest()
        return self.send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})

    def refuse(self, status, code):
        self.send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    def send_json(self, value):
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send(self, status, body, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments):
        """Keep the tests' output clean."""
