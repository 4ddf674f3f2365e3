"""What a hub and its CDN answer to a request where nothing is wrong.

Read off the two lines of the client (huggingface_hub 0.36.2 and 2.4.0: `hf_api.py`,
`file_download.py`, `utils/_http.py`, `utils/_pagination.py`, `utils/_xet.py`): what they ask for,
and which headers and codes they look at.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Protocol
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.hub_repos import Answer, Asked, Repo, as_json, git_blob, metadata, refusal, tree_entry

PAGE_ENTRIES = 1000
DISABLED = "Access to this resource is disabled."
BAD_TOKEN = "Invalid credentials in Authorization header"
EXPIRED = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>expired</Message></Error>'
LIMITS = {
    "RateLimit": '"resolvers";r=2999;t=111',
    "RateLimit-Policy": '"fixed window";"resolvers";q=3000;w=300',
}


class World(Protocol):
    """What the answers depend on."""

    repos: dict[str, Repo]
    renamed: dict[str, str]
    token: str | None
    history: dict[str, Repo]
    forgetful: bool
    link_uses: int | None
    page_entries: int

    @property
    def endpoint(self) -> str: ...
    @property
    def cdn(self) -> str: ...
    def sign(self) -> str: ...
    def is_expired(self, signature: str) -> bool: ...


def answer(world: World, asked: Asked) -> Answer:
    """The answer of one of the servers."""
    address = urlsplit(asked.path)
    parts = [unquote(part) for part in address.path.strip("/").split("/")]
    if asked.server == "other":
        return Answer(200, {"ETag": '"elsewhere"'}, b"not of the hub" * 100)
    if asked.server == "cdn":
        return _cdn(world, asked, parts, address.query)
    sent = asked.headers.get("authorization")
    if None not in {sent, world.token} and sent != f"Bearer {world.token}":
        return refusal(401, "", BAD_TOKEN)
    return _hub(world, asked, parts).having(LIMITS)


def _hub(world: World, asked: Asked, parts: list[str]) -> Answer:
    if parts == ["api", "whoami-v2"]:
        known = "authorization" in asked.headers
        return as_json(200, {"name": "tester"}) if known else refusal(401, "", BAD_TOKEN)
    if parts[:2] == ["api", "models"]:
        return _api(world, asked, "/".join(parts[2:4]), parts[4:])
    if parts[:3] == ["api", "resolve-cache", "models"] and len(parts) > 6:
        return _resolve(world, asked, "/".join(parts[3:5]), parts[5], "/".join(parts[6:]))
    if len(parts) > 4 and parts[2] == "resolve":
        return _resolve(world, asked, "/".join(parts[:2]), parts[3], "/".join(parts[4:]))
    return refusal(404, "NotFound")


def _api(world: World, asked: Asked, name: str, rest: list[str]) -> Answer:
    if rest[:1] == ["xet-read-token"]:
        return as_json(500, {})
    revision = rest[1] if len(rest) > 1 else "main"
    repo = _open(world, asked, name, revision)
    if isinstance(repo, Answer):
        return repo
    if rest[:1] == ["tree"]:
        return _tree(world, asked, repo)
    if rest[:1] == ["paths-info"]:
        paths = parse_qs(asked.body.decode()).get("paths") or json.loads(asked.body)["paths"]
        return as_json(200, [tree_entry(repo, path) for path in paths if path in repo.files])
    return _info(asked, name, repo, revision)


def _open(world: World, asked: Asked, name: str, revision: str) -> Repo | Answer:
    """The repo at a revision, or why not."""
    if name in world.renamed:
        location = asked.path.replace(name, world.renamed[name], 1)
        return Answer(307, {"Location": location}, b"Temporary Redirect. Redirecting")
    repo = world.repos.get(name)
    if repo is None or (repo.private and "authorization" not in asked.headers):
        return refusal(401, "RepoNotFound", "Repository not found")
    if repo.disabled:
        return refusal(403, "", DISABLED)
    if revision in world.history and not world.forgetful:
        return world.history[revision]
    if revision not in {repo.commit, *repo.refs}:
        return refusal(404, "RevisionNotFound", f"Invalid rev id: {revision[:40]}")
    return repo


def _info(asked: Asked, name: str, repo: Repo, revision: str) -> Answer:
    blobs = parse_qs(urlsplit(asked.path).query).get("blobs", [""])[0].lower() == "true"
    siblings = [
        {"rfilename": file, **(metadata(repo, file) if blobs else {})} for file in repo.files
    ] + [{"rfilename": file, "size": 1, "blobId": "0" * 40} for file in repo.extra_names]
    sha = repo.commit if revision == repo.commit else repo.refs[revision]
    document = {"id": name, "modelId": name, "sha": sha, "siblings": siblings, "tags": []}
    document |= {"private": repo.private, "gated": "auto" if repo.gated else False}
    return as_json(200, document)


def _tree(world: World, asked: Asked, repo: Repo) -> Answer:
    """Entries page by page: the next one is in the header `Link`."""
    address = urlsplit(asked.path)
    begin = int(parse_qs(address.query).get("cursor", ["0"])[0])
    names = [*repo.files, *repo.extra_names]
    entries = [
        tree_entry(repo, n) if n in repo.files else {"type": "file", "path": n, "size": 1}
        for n in names[begin : begin + world.page_entries]
    ]
    following = begin + world.page_entries
    if following >= len(names):
        return as_json(200, entries)
    query = re.sub(r"&?cursor=\d+", "", address.query) + f"&cursor={following}"
    link = f'<{world.endpoint}{address.path}?{query.lstrip("&")}>; rel="next"'
    return as_json(200, entries, {"Link": link})


def _resolve(world: World, asked: Asked, name: str, revision: str, file: str) -> Answer:
    """A small file itself, or where the CDN has a large one."""
    repo = _open(world, asked, name, revision)
    if isinstance(repo, Answer):
        return repo
    if repo.gated and (repo.gated == "strict" or "authorization" not in asked.headers):
        strange = repo.gated == "strict" and "authorization" not in asked.headers
        return refusal(
            401 if strange else 403, "GatedRepo", f"Access to model {name} is restricted"
        )
    about = {"X-Repo-Commit": repo.commit}
    if file not in repo.files:
        return refusal(404, "EntryNotFound", "Entry not found", X_Repo_Commit=repo.commit)
    if file in repo.lfs:
        return _redirect_to_cdn(world, name, repo, file)
    about["ETag"] = f'"{git_blob(repo.files[file])}"'
    if repo.cached_resolve and not asked.path.startswith("/api/"):
        location = f"/api/resolve-cache/models/{name}/{repo.commit}/{quote(file)}?etag=1"
        return Answer(307, {**about, "Location": location}, b"Temporary Redirect. Redirecting")
    return _file(asked, repo.files[file], about)


def _redirect_to_cdn(world: World, name: str, repo: Repo, file: str) -> Answer:
    size_bytes = len(repo.files[file])
    sha256 = hashlib.sha256(repo.files[file]).hexdigest()
    headers: dict[str, str | None] = {
        "X-Repo-Commit": repo.commit,
        "Accept-Ranges": "bytes",
        "X-Linked-Etag": f'"{sha256}"',
        "X-Linked-Size": str(size_bytes),
        "ETag": f'"{sha256}"',
        "Location": f"{world.cdn}/{quote(name)}/{quote(file)}?signature={world.sign()}",
    }
    if repo.xet:
        token = f"{world.endpoint}/api/models/{name}/xet-read-token/{repo.commit}"
        headers |= {"X-Xet-Hash": sha256, "Link": f'<{token}>; rel="xet-auth"'}
    return Answer(302, headers, b"Found. Redirecting")


def _cdn(world: World, asked: Asked, parts: list[str], query: str) -> Answer:
    """A file of a signed address. Without a repo or file of this name: no such key."""
    repo = world.repos.get("/".join(parts[:2]))
    content = None if repo is None else repo.files.get("/".join(parts[2:]))
    if content is None:
        return Answer(404, {"Content-Type": "application/xml"}, EXPIRED)
    if world.is_expired(parse_qs(query).get("signature", [""])[0]):
        return Answer(403, {"Content-Type": "application/xml"}, EXPIRED)
    return _file(asked, content, {"ETag": f'"{hashlib.md5(content).hexdigest()}"'})


def _file(asked: Asked, content: bytes, headers: dict[str, str]) -> Answer:
    """A file, whole or the part that is asked for."""
    total = len(content)
    if asked.flip_at is not None and total:
        at = asked.flip_at % total
        content = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    headers = {**headers, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", asked.headers.get("range", ""))
    if wanted is None or wanted[0] == "bytes=-":
        return Answer(200, headers, content)
    begin = int(wanted[1]) if wanted[1] else max(0, total - int(wanted[2]))
    end = min(int(wanted[2]) + 1, total) if wanted[1] and wanted[2] else total
    if begin >= end:
        return Answer(416, {**headers, "Content-Range": f"bytes */{total}"}, b"")
    part = {"Content-Range": f"bytes {begin}-{end - 1}/{total}"}
    return Answer(206, {**headers, **part}, content[begin:end])
