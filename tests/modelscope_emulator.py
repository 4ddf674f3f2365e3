"""A ModelScope on loopback: two servers, the site and its CDN, that speak plain HTTP.

What its clients send and need was read off their sources (`modelscope` 1.31.0; 1.40.2 with
`modelscope_hub` 0.5.1), and both were run against this one: 1.40.2 by `test_modelscope_real.py`,
and `model_info`, `list_repo_commits` and `model_file_download` of 1.31.0 by hand. The codes of
errors, the cut at 3000 entries and the silence about unknown parameters are those of the site, as
others have measured them.
Faults are injected per request; all requests are recorded.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

from modelscope_repos import Repo, commit_of, digest_of, resolve, tree
from modelscope_wire import Fault, Recorded, ServerName, Wire

MAX_ENTRIES = 3000
CODES = {"missing": 10010205001, "refused": 10010200001, "no tree": 10990101004}


class ModelScopeEmulator:
    """Start with `with ModelScopeEmulator() as site:`; add repos; read `site.requests` later."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[Recorded] = []
        self.faults: list[Fault] = []
        self.sent_bytes = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self._servers = {name: _server(self, name) for name in ("api", "cdn")}
        self.endpoint = self._address("api")
        self.cdn = self._address("cdn")

    def __enter__(self) -> Self:
        for server in self._servers.values():
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    def add(self, name: str, files: Mapping[str, bytes], **options: Any) -> Repo:
        """Serve a repo, whose `master` has these files; weight files are LFS."""
        commit = commit_of(files)
        options.setdefault("lfs", frozenset(n for n in files if n.endswith(".safetensors")))
        self.repos[name] = Repo({commit: dict(files)}, {"master": commit}, **options)
        return self.repos[name]

    def fail(self, server: ServerName, path_part: str, **how: Any) -> None:
        """Inject a fault (see `Fault`)."""
        self.faults.append(Fault(server, path_part, **how))

    def take_fault(self, server: str, path: str) -> Fault | None:
        """The fault for a request, counted down."""
        with self.lock:
            for fault in self.faults:
                if server == fault.server and fault.path_part in unquote(path):
                    fault.times -= 1
                    if fault.times <= 0:
                        self.faults.remove(fault)
                    return fault
        return None

    def paths(self, server: ServerName | None = None) -> list[str]:
        """Paths of the recorded requests."""
        return [unquote(r.path) for r in self.requests if server in {None, r.server}]

    def _address(self, name: str) -> str:
        return f"http://127.0.0.1:{self._servers[name].server_address[1]}"


class _Server(ThreadingHTTPServer):
    """A server whose threads die with the process."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # else clients that come together may have to knock again


def _server(site: ModelScopeEmulator, name: str) -> ThreadingHTTPServer:
    handler = type("Handler", (_Handler,), {"site": site, "server_name": name})
    return _Server(("127.0.0.1", 0), handler)


class _Handler(Wire):
    """Answers of both servers."""

    def do_GET(self) -> None:  # noqa: N802 - http.server calls it so
        self.fault = self.site.take_fault(self.server_name, self.path)
        if self.fault is not None and self.fault.raw is not None:
            self.record(0)
            self.close_connection = True
            with suppress(BrokenPipeError, ConnectionResetError):
                self.send_body(self.fault.raw, self.fault)
            return
        if self.fault is not None and self.fault.status is not None:
            self.send(self.fault.status, self.fault.headers, self.fault.body)
            return
        path = urlsplit(self.path)
        parts = [unquote(part) for part in path.path.strip("/").split("/")]
        query = {key: values[0] for key, values in parse_qs(path.query).items()}
        if self.server_name == "cdn":
            self._send_file(self._by_digest(parts[-1]))
        elif parts[:3] == ["api", "v1", "models"] and len(parts) >= 5:
            self._answer("/".join(parts[3:5]), "/".join(parts[5:]), query)
        else:
            self._refuse("missing")

    def _answer(self, name: str, what: str, query: Mapping[str, str]) -> None:
        repo = self.site.repos.get(name)
        if repo is None:
            self._refuse("missing")
        elif repo.token is not None and not self._knows(repo.token):
            self._refuse("refused")
        elif what == "":
            owner, _, own_name = name.partition("/")
            self._send_json({"Id": 1, "Name": own_name, "Path": owner})
        elif what == "revisions":
            kinds = {"Branches": repo.branches, "Tags": repo.tags}
            rows = {k: [{"Revision": n, "CreatedAt": 1} for n in v] for k, v in kinds.items()}
            self._send_json({"RevisionMap": {k: v or None for k, v in rows.items()}})
        elif what == "commits":
            commit = resolve(repo, query.get("Ref", "master"))
            # A parameter that is not known leaves the site with the main branch.
            shown = [{"Id": commit, "ShortId": commit[:8], "Title": "x"}] if commit else None
            self._send_json({"Commit": shown, "TotalCount": len(repo.commits)})
        elif what == "repo/files":
            self._list(repo, query)
        elif what == "repo":
            self._send_repo_file(name, repo, query)
        else:
            self._refuse("missing")

    def _knows(self, token: str) -> bool:
        cookies = f"m_session_id={token}" in self.headers.get("Cookie", "")
        return cookies or self.headers.get("Authorization") == f"Bearer {token}"

    def _list(self, repo: Repo, query: Mapping[str, str]) -> None:
        commit = resolve(repo, query.get("Revision", "master"))
        if commit is None:
            self._refuse("no tree")
            return
        root, deep = query.get("Root", ""), query.get("Recursive", "False") == "True"
        entries = tree(repo, commit, root, deep)[:MAX_ENTRIES]
        latest = {"Id": commit, "ShortId": commit[:8]}
        self._send_json({"Files": entries or None, "IsVisual": 0, "LatestCommitter": latest})

    def _send_repo_file(self, name: str, repo: Repo, query: Mapping[str, str]) -> None:
        commit = resolve(repo, query.get("Revision", "master"))
        file = query.get("FilePath", "")
        if commit is None or file not in repo.commits[commit]:
            self._refuse("missing")
            return
        content = repo.commits[commit][file]
        if file not in repo.lfs:
            # Small files come from git, and always whole.
            self.headers.replace_header("Range", "") if "Range" in self.headers else None
            self._send_file(content)
            return
        digest = digest_of(content)
        location = f"{self.site.cdn}/lfs/{quote(name)}/{digest}?Signature=secret"
        self.send(302, {"Location": location, "X-Linked-ETag": f'"{digest}"'}, b"")

    def _by_digest(self, digest: str) -> bytes:
        return next(
            content
            for repo in self.site.repos.values()
            for files in repo.commits.values()
            for content in files.values()
            if digest_of(content) == digest
        )

    def _send_file(self, content: bytes) -> None:
        fault, wanted = self.fault, self.headers.get("Range", "")
        status, headers, total = 200, {"Accept-Ranges": "bytes"}, len(content)
        if fault and fault.flip_at is not None:
            at = fault.flip_at % total
            content = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        if wanted.startswith("bytes=") and not (fault and fault.ignore_range):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin, end = int(first), min(int(last) + 1 if last else total, total)
            if begin >= total:
                self.send(416, {"Content-Range": f"bytes */{total}"}, b"")
                return
            content, status = content[begin:end], 206
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{total}"
        if fault and fault.span is not None:
            headers["Content-Range"], status = fault.span, 206
        self.send(status, headers, content)

    def _send_json(self, data: Any, status: int = 200, code: int = 200) -> None:
        well = code == 200
        document = {"Code": code, "Data": data, "Message": "success" if well else "失败"}
        document |= {"RequestId": "0", "Success": well}
        body = json.dumps(document).encode()
        self.send(status, {"Content-Type": "application/json; charset=utf-8"}, body)

    def _refuse(self, reason: str) -> None:
        self._send_json(None, 404, CODES[reason])
