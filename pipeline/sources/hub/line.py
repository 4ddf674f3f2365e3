"""One attempt at the hub, made by the client in one thread, and watched from another.

The client's own waits and retries differ from version to version and have no bound in common: a
`Retry-After` of a day would be slept through, a byte a second is never too slow. So a hook in its
HTTP session sees every answer first: errors are raised at once, for the one retry of ours
(`retry.py`), and the connection is kept in hand so that it can be shut from outside.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

from pipeline.sources.crew import CutOffError
from pipeline.sources.hub.checks import WrongAnswerError, check_answer

MAX_REDIRECTS = 10
"""In a row. A hub makes one or two; some versions of the client follow without end."""

_of_thread = threading.local()


class Line:
    """The connection of one attempt.

    `commit` is what the hub's answers must be about; `size_bytes` and `digest` are those of the
    file that the client is to bring, None where our own code reads no more than it wants.
    """

    def __init__(
        self,
        commit: str | None = None,
        size_bytes: int | None = None,
        digest: str | None = None,
    ) -> None:
        self.commit = commit
        self.size_bytes = size_bytes
        self._digest = digest
        self.num_bytes = 0
        """Bytes that our own code has read; the client's are seen in its partial file."""

        self.num_answers = 0
        self.cut_at = 0.0
        self._cut: CutOffError | None = None
        self._answer: Any = None
        self._redirects = 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """What this thread asks of the hub belongs to this attempt.

        Raises CutOffError in place of whatever fails after `cut`.
        """
        session = _tie()
        _of_thread.line = self
        try:
            yield
        except Exception as error:
            if self._cut is not None:
                raise self._cut from error
            raise
        finally:
            _of_thread.line = None
            self._answer = None
            if not _is_shared(session):
                session.close()

    def cut(self, reason: str, *, final: bool = False) -> None:
        """End the attempt, from any thread: what waits for the hub fails at once."""
        if self._cut is None:
            self.cut_at = time.monotonic()
            self._cut = CutOffError(reason, final=final)
        answer = self._answer
        if answer is not None:
            _shut(answer)

    def check(self) -> None:
        """Raise CutOffError where the attempt has been cut."""
        if self._cut is not None:
            raise self._cut

    @property
    def sign(self) -> tuple[int, int]:
        """Changes while something comes."""
        return self.num_bytes, self.num_answers

    @property
    def can_be_shut(self) -> bool:
        """An answer has begun to come: before that there is no connection in hand."""
        return self._answer is not None

    @property
    def outcome(self) -> CutOffError | None:
        """How the attempt was cut, or None."""
        return self._cut

    def hear(self, answer: Any) -> None:
        """An answer has begun to come; its body may take long."""
        self.check()
        self._answer = answer
        self.num_answers += 1
        self._redirects = self._redirects + 1 if answer.status_code >= 300 else 0
        if self._redirects > MAX_REDIRECTS:
            raise WrongAnswerError("redirects in a circle")
        check_answer(answer, self.commit, self.size_bytes, self._digest)
        self.check()


def _before(_: Any) -> None:
    """The hook of httpx before every request: no other is made once the attempt is cut."""
    line = getattr(_of_thread, "line", None)
    if line is not None:
        line.check()


def _hear(answer: Any, *_: Any, **__: Any) -> None:
    """The hook: hand an answer to the attempt of this thread, if there is one."""
    line = getattr(_of_thread, "line", None)
    if line is None:
        return
    try:
        line.hear(answer)
    except Exception:
        answer.close()
        raise


def _tie() -> Any:
    """Put the hook into the session that the client uses in this thread, and return that."""
    session = client_session()
    is_shared = _is_shared(session)
    hooks = session.event_hooks if is_shared else session.hooks
    if _hear not in hooks["response"]:
        hooks["response"].append(_hear)
        if is_shared:  # requests has no hook for this, and its versions of the client repeat less
            hooks["request"].append(_before)
    return session


def client_session() -> Any:
    """The client's HTTP session in this thread.

    While another thread closes the one of all threads, the client has none for a moment (2.4).
    """
    from huggingface_hub.utils import get_session

    session = get_session()
    while session is None:
        session = get_session()
    return session


def http_library() -> Literal["httpx", "requests"]:
    """What the client speaks HTTP by; `httpx2` counts as `httpx`."""
    return "httpx" if _is_shared(client_session()) else "requests"


def _is_shared(session: Any) -> bool:
    """httpx: one session serves all threads. With requests each has its own, left open for ever."""
    return hasattr(session, "event_hooks")


def _shut(answer: Any) -> None:
    """Shut the connection of an answer, so that whoever reads it sees its end."""
    with suppress(OSError, RuntimeError, ValueError, AttributeError):
        extensions = getattr(answer, "extensions", None)
        if extensions is None:
            answer.raw.shutdown()  # requests, by urllib3 2.3 and later
        else:
            stream = extensions["network_stream"]  # httpx
            stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
