"""Rules of `source.remote_code`: Python code of a source is only executed by name and digest."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipeline.recipe.rules import broken_rule

NAME = re.compile(r"^([A-Za-z_][A-Za-z0-9_]*/)*[A-Za-z_][A-Za-z0-9_]*\.py$")
SHA256 = re.compile(r"^[0-9a-f]{64}$")
MAX_FILES = 50
MAX_NAME = 200

_COMMIT = re.compile(r"[0-9a-f]{40}")


def check_remote_code(code: Mapping[str, str], repo: str | None, revision: str | None) -> None:
    """Names that stay in the source, whole digests, and of a repo a commit that cannot move."""
    if len(code) > MAX_FILES:
        message = f"`source.remote_code` names {len(code)} files, more than {MAX_FILES}"
        raise broken_rule(message, ("remote_code",), hint="name those that `auto_map` needs")
    for name, digest in code.items():
        if len(name) > MAX_NAME or not NAME.fullmatch(name):
            raise broken_rule(
                f"`source.remote_code` has `{name[:MAX_NAME]}`: no Python file of a source",
                ("remote_code", name),
                hint="write names below the root of the source, such as `modeling_x.py`",
            )
        if not SHA256.fullmatch(digest):
            raise broken_rule(
                f"`source.remote_code.{name}` is not a SHA-256",
                ("remote_code", name),
                hint="read the file, then write what `sha256sum` says of it: 64 digits and letters",
            )
    if code and repo is not None and _COMMIT.fullmatch(revision or "") is None:
        raise broken_rule(
            "`source.remote_code` needs a full commit as `source.revision`: a branch or tag can "
            "become other code",
            *((("revision",),) if revision is not None else ()),
            ("remote_code",),
            hint="write the 40 digits of the commit whose code was read",
        )
