"""What a ModelScope says of a repo, asked over plain HTTPS.

The few calls were read off its own clients (`modelscope` 1.20, 1.31 and 1.40 with `modelscope_hub`
0.5.1: `hub/api.py`, `_legacy_api.py`, `_download.py`):

    /api/v1/models/<repo>/revisions                                names of branches and tags
    /api/v1/models/<repo>/commits?Ref=&PageNumber=&PageSize=       commits of one, the latest first
    /api/v1/models/<repo>/repo/files?Revision=&Recursive=[&Root=]  files: size and SHA-256 of each
    /api/v1/models/<repo>/repo?Revision=&FilePath=                 a file, or a redirect to its CDN

`Revision` may be a commit, so that what was listed is what is fetched. Two things that the site
does in silence are looked after here: a parameter that it does not know leaves it with the main
branch, so a name must be among the `revisions`, and a listing may not speak of another commit; and
a list of files ends at 3000 entries, so a longer one is put together folder by folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import pipeline
from pipeline.artifact import Json
from pipeline.checkpoint.strict_json import Limits as JsonLimits
from pipeline.checkpoint.strict_json import parse_object, printable
from pipeline.errors import RemoteError, VerificationError
from pipeline.sources.http.pace import Limits
from pipeline.sources.http.transport import LIMITS, Get, Refused, open_address
from pipeline.sources.listing import COMMIT, SourceFile
from pipeline.sources.modelscope.errors import (
    ENDPOINT_HINT,
    NotUnderstood,
    Request,
    no_revision,
)
from pipeline.sources.modelscope.site import Site

DEFAULT_REVISION = "master"
SHA256 = re.compile(r"[0-9a-f]{64}")

JSON_LIMITS = JsonLimits(32 << 20, 1 << 19)
"""An entry of a list of files has some 500 bytes and 15 items."""

MAX_ENTRIES = 3000
"""Where the site cuts off a list of files, without a word."""

MAX_LISTINGS = 100
MAX_FILE_BYTES = 1 << 50
USER_AGENT = f"trtllm-pack/{pipeline.__version__}"


@dataclass(frozen=True, slots=True)
class Api:
    """Requests about one repo; each is made once. They raise what `open_address` raises, and
    NotUnderstood for an answer that is none of a ModelScope."""

    site: Site
    repo: str
    limits: Limits = LIMITS

    def resolve(self, revision: str) -> str:
        """The commit that a branch or tag stands for now. Raises RemoteError where it is none."""
        missing = no_revision(Request(self.site, self.repo, revision))
        if revision != DEFAULT_REVISION and revision not in self._revisions():
            raise missing
        query = {"Ref": revision, "PageNumber": "1", "PageSize": "1"}
        commits = self._ask("commits", query).get("Commit")
        if not commits:
            raise missing
        latest = commits[0] if isinstance(commits, list) else None
        commit = latest.get("Id") if isinstance(latest, dict) else None
        if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
            raise NotUnderstood("the latest commit has no id")
        return commit

    def list_files(self, commit: str) -> tuple[SourceFile, ...]:
        """All files at a commit. One whose size or digest is not understood has no digest.

        Raises RemoteError where nothing is there, or more than the site can list.
        """
        files: dict[str, SourceFile] = {}
        for entry in self._entries(commit):
            if entry.get("Type") != "blob":
                continue
            file = _source_file(entry)
            if files.setdefault(file.name, file) != file:
                name = printable(file.name)
                raise VerificationError(
                    f"`{self.repo}` lists `{name}` twice, as different files", hint=ENDPOINT_HINT
                )
        if not files:
            raise no_revision(Request(self.site, self.repo, commit))
        return tuple(files.values())

    def file_address(self, commit: str, name: str) -> str:
        """Where a file is."""
        return self._address("repo", {"Revision": commit, "FilePath": name})

    def _revisions(self) -> set[str]:
        """Names of branches and tags."""
        names = self._ask("revisions", {}).get("RevisionMap")
        if not isinstance(names, dict):
            raise NotUnderstood("there is no list of revisions")
        rows = [row for kind in ("Branches", "Tags") for row in names.get(kind) or []]
        return {str(row.get("Revision")) for row in rows if isinstance(row, dict)}

    def _entries(self, commit: str) -> Iterator[dict[str, Json]]:
        """Entries of all folders; a folder that does not fit into one list is listed by its parts.

        An entry may come twice: the beginning of a list that was cut off counts as well.
        """
        waiting, asked = [""], 0
        while waiting:
            folder = waiting.pop()
            entries = self._list(commit, folder, recursive=True)
            asked += 1
            yield from entries
            if len(entries) < MAX_ENTRIES:
                continue
            own = self._list(commit, folder, recursive=False)
            asked += 1
            if len(own) >= MAX_ENTRIES or asked > MAX_LISTINGS:
                raise RemoteError(
                    f"`{self.repo}` has more files than ModelScope can list",
                    facts=[f"{len(own)} in `{printable(folder or '/')}`"],
                    hint="fetch it by git, and use `source.path`",
                )
            yield from own
            waiting += [entry["Path"] for entry in own if entry.get("Type") == "tree"]

    def _list(self, commit: str, folder: str, *, recursive: bool) -> list[dict[str, Json]]:
        query = {"Revision": commit, "Recursive": str(recursive)}
        data = self._ask("repo/files", query | ({"Root": folder} if folder else {}))
        entries = data.get("Files") or []
        if not isinstance(entries, list) or not all(_is_entry(entry) for entry in entries):
            raise NotUnderstood("there is no list of files")
        latest = data.get("LatestCommitter")
        said = latest.get("Id") if isinstance(latest, dict) else None
        if not folder and said and said != commit:
            raise NotUnderstood(f"the files of {commit} are those of {printable(str(said), 60)}")
        return entries

    def _ask(self, what: str, query: Mapping[str, str]) -> dict[str, Json]:
        """The `Data` of an answer that says that all is well."""
        get = Get(
            self._address(what, query),
            JSON_LIMITS.max_bytes,
            {"Accept": "application/json", "User-Agent": USER_AGENT},
            self.site.secret_headers(),
            self.limits,
        )
        with open_address(get) as answer:
            status, headers = answer.status, answer.headers
            body = answer.read(JSON_LIMITS.max_bytes + 1)
        try:
            document = parse_object(body, "the answer", JSON_LIMITS)
        except VerificationError as error:
            raise NotUnderstood(error.message) from None
        if document.get("Code") != 200 or document.get("Success") is False:
            if isinstance(document.get("Code"), int):
                raise Refused(status, headers, body)
            raise NotUnderstood("the answer has no code")
        data = document.get("Data")
        if not isinstance(data, dict):
            raise NotUnderstood("the answer has no data")
        return data

    def _address(self, what: str, query: Mapping[str, str]) -> str:
        address = f"{self.site.endpoint}/api/v1/models/{quote(self.repo)}/{what}"
        return f"{address}?{urlencode(query)}" if query else address


def _is_entry(entry: Json) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("Path"), str)


def _source_file(entry: Mapping[str, Json]) -> SourceFile:
    size, sha256 = entry.get("Size"), entry.get("Sha256")
    if type(size) is not int or not 0 <= size <= MAX_FILE_BYTES:
        return SourceFile(entry["Path"], 0)
    lower = sha256.lower() if isinstance(sha256, str) else ""
    return SourceFile(entry["Path"], size, sha256=lower if SHA256.fullmatch(lower) else None)
