"""Variables of the hub client that it would fail on are named, before it is imported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.errors import MachineError
from pipeline.sources.hub import settings
from pipeline.sources.hub.settings import check_settings


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HF_HUB_DOWNLOAD_TIMEOUT": "30", "HF_HUB_ETAG_TIMEOUT": " 10 "},
        {"HF_ENDPOINT": "https://hub.example.org/path"},
        {"HF_ENDPOINT": "http://user:word@127.0.0.1:8080"},
        {"HF_ENDPOINT": "http://[::1]:80"},
        {"HTTPS_PROXY": "http://proxy:3128"},
        {"https_proxy": "proxy:3128"},
    ],
)
def test_what_the_client_takes_is_well(environment: dict[str, str]) -> None:
    check_settings(environment)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("HF_HUB_DOWNLOAD_TIMEOUT", text) for text in ("", "abc", "1.5", "-1", "²", "9" * 20)),
        ("HF_HUB_ETAG_TIMEOUT", "soon"),
        *(("HF_TOKEN", text) for text in ("hf_\u00e4", "hf_a\x01b", "a" * 5000)),
        ("HUGGING_FACE_HUB_TOKEN", "hf_\u4e2d"),
        ("HTTP_PROXY", "not a proxy ::"),
        ("ALL_PROXY", "ftp://proxy"),
        *(
            ("HF_ENDPOINT", text)
            for text in (
                "",
                "hub.example.org",
                "ftp://hub",
                "http://127.0.0.1:99999",
                " http://127.0.0.1:1 ",
                "http://[::1",
                "http://",
                "http://hüb",
                "http://a..b",
                f"http://{'a' * 64}.example",
                "http://127.0.0.1/?q=1",
                "http://127.0.0.1/#hub",
            )
        ),
    ],
)
def test_what_it_does_not_take_is_named(name: str, value: str) -> None:
    with pytest.raises(MachineError, match=f"`{name}` is") as caught:
        check_settings({name: value})
    assert caught.value.hint


@pytest.mark.parametrize(("major", "name"), [(0, "REQUESTS_CA_BUNDLE"), (2, "SSL_CERT_FILE")])
def test_certificates_that_cannot_be_loaded(
    major: int, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The HTTP library raises what looks like a fault of ours, or another file's."""
    monkeypatch.setattr(settings, "client_major", lambda: major)
    bundle = tmp_path / "bundle.pem"
    for makes_it in (lambda: None, lambda: bundle.write_text("no certificate")):
        makes_it()
        with pytest.raises(MachineError, match=f"`{name}` names no certificates.*bundle") as caught:
            check_settings({name: str(bundle)})
        assert caught.value.facts
        assert "PEM" in str(caught.value.hint)
    check_settings({"SSL_CERT_FILE" if major == 0 else "REQUESTS_CA_BUNDLE": str(bundle)})
    check_settings({name: ""})


@pytest.mark.parametrize("kind", ["pipe", "folder", "large", "UTF-16", "binary", "circle"])
def test_a_file_that_holds_no_token(kind: str, tmp_path: Path) -> None:
    """The client waits for a pipe for ever, and takes what it finds to be a fault of the hub."""
    path = tmp_path / "token"
    contents = {"large": b"a" * 5000, "UTF-16": "hf_abc".encode("utf-16"), "binary": b"\x01\x02"}
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "circle":
        path.symlink_to(path)
    else:
        path.write_bytes(contents[kind])
    with pytest.raises(MachineError, match=f"`{path}`") as caught:
        check_settings({"HF_TOKEN_PATH": str(path)})
    assert caught.value.hint
    check_settings({"HF_TOKEN_PATH": str(path), "HF_TOKEN": "hf_abc\n"})


def test_a_file_with_a_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_abc\r\n\n")
    check_settings({"HF_HOME": str(tmp_path)})
    check_settings({"HF_HOME": str(tmp_path / "none")})


def test_a_socks_proxy_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "find_spec", lambda name: None)
    with pytest.raises(MachineError, match="`ALL_PROXY` names a SOCKS proxy"):
        check_settings({"all_proxy": "socks5://127.0.0.1:1"})
    monkeypatch.setattr(settings, "find_spec", lambda name: object())
    check_settings({"all_proxy": "socks5://127.0.0.1:1"})
