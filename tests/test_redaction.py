"""Secrets never reach a text: neither those that look like one nor those that this process has."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from urllib.parse import quote

import pytest

from pipeline.protected_streams import RedactedStream
from pipeline.redaction import (
    HIDDEN,
    find_known_secrets,
    redact,
    redact_value,
    secret_finder,
    secret_values,
    token_files,
)

SIGNED = "https://cdn.example/f?"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("token hf_abcdefghijklmnopqrstuvwxyz is wrong", "hf_abcdef"),
        ("hf_oauth_eyJhbGciOi.abcdefghijkl-mnop", "abcdefghijkl"),
        ("ms-01234567-89ab-cdef-0123-456789abcdef", "89ab-cdef"),
        ("authorization: Bearer abc.def-123", "abc.def"),
        ("{'Authorization': 'Basic dXNlcjpwYXNz'}", "dXNlcjpwYXNz"),
        ('{"authorization": "token 0123456789abcdef"}', "0123456789abcdef"),
        ("Proxy-Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("Set-Cookie: m_session_id=0123456789; Path=/", "0123456789"),
        ("https://user:password@host.example/x", "password"),
        ("https://user:p@ssword@host.example/x", "ssword"),
        (f"{SIGNED}X-Amz-Signature=deadbeef&Expires=1", "deadbeef"),
        (f"{SIGNED}x=1&X-Amz-Credential=AKIA%2F2026", "AKIA"),
        (f"{SIGNED}X-Amz-Security-Token=IQoJb3Jp", "IQoJb3Jp"),
        (f"{SIGNED}Expires=1&Policy=eyJTdGF0ZW1l&Signature=abc~def-&Key-Pair-Id=K2", "abc~def"),
        (f"{SIGNED}Policy=eyJTdGF0ZW1l", "eyJTdGF0ZW1l"),
        (f"{SIGNED}Key-Pair-Id=K24J24Z295AEI9", "K24J24"),
        (f"{SIGNED}signature=secret", "=secret"),
        (f"{SIGNED}a=b&amp;token=tok123", "tok123"),
        (f"{SIGNED}OSSAccessKeyId=LTAI123&Signature=x%2By", "LTAI123"),
        (f"{SIGNED}sig=abcdef", "abcdef"),
        (
            "https://a.example/?to=" + quote(f"{SIGNED}X-Amz-Signature=deadbeef", safe=""),
            "deadbeef",
        ),
        (json.dumps({"accessToken": "xet-abcdefgh", "exp": 1}), "xet-abcdefgh"),
        (json.dumps(json.dumps({"accessToken": "xet-abcdefgh"})), "xet-abcdefgh"),
        ("AKIAIOSFODNN7EXAMPLE", "IOSFODNN"),
        ("ghp_0123456789abcdef0123456789abcdef0123", "0123456789abcdef"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKC\n-----END RSA", "MIIEpAIBAAKC"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, secret: str) -> None:
    assert secret in text
    clean = redact(text)
    assert secret not in clean
    assert HIDDEN in clean


@pytest.mark.parametrize(
    "text",
    [
        "hf_transfer and hf_checkpoint_format are names",
        "https://huggingface.co/acme/tiny/resolve/main/model.safetensors?download=true",
        "`tp_size=2`, basic attention, 3 tokens; the policy of eviction: max_utilization",
        '{"eos_token": "<|end_of_text|>", "key": "0123456789abcdef", "signature_version": "v4"}',
        "git@github.com:acme/tiny.git is no address with a password",
        "stage_keys: c0ffee; key=convert",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


def test_values_of_variables_are_hidden_in_every_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "HF_TOKEN": 'odd "quoted" \\ value',
        "HUGGING_FACE_HUB_TOKEN": "another-value/with+signs",
        "MODELSCOPE_API_TOKEN": "scope-value-1",
        "MY_SECRET": "grüße-und-küsse",
        "DB_PASSWORD": "correct horse battery",
        "PGPASSWORD": "database-value-1",
        "MYSQL_PWD": "database-value-2",
        "GITLAB_TOKEN_2": "gitlab-value-1",
        "ACME_APIKEY": "acme-value-1",
        "ACME_KEY": "0123abcd4567ef89",
        "SIGNING_KEY": "-----BEGIN X-----\nfirstlineofkey\nsecondlineofkey\n-----END X-----",
        "HTTPS_PROXY": "http://me:proxypass@proxy.example:3128",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    hidden = [*values.values(), "firstlineofkey", "secondlineofkey", "proxypass"]
    hidden = [value for value in hidden if "\n" not in value]
    for value in hidden:
        shapes = {value, quote(value, safe=""), json.dumps(value)[1:-1], repr(value)[1:-1]}
        for shape in shapes:
            assert shape not in redact(f"it said ({shape})!")


def test_what_is_written_down_is_a_secret_only_by_its_shape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "canary-value-1")
    monkeypatch.setenv("FOO_KEY", "attention")
    is_secret = secret_finder()
    for text in ("a hf_" + "x" * 34, "https://me:pass@host.example", "x canary-value-1 y"):
        assert is_secret(text), text
    for text in ("the Bearer of this", "cookie: flour, sugar", "fused attention", "token = 1234"):
        assert not is_secret(text), text


def test_short_values_and_paths_are_no_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "short")
    monkeypatch.setenv("SSL_KEY", str(tmp_path))
    assert redact(f"a short {tmp_path}") == f"a short {tmp_path}"


@pytest.mark.parametrize(
    "value", ["bfloat16", "onnxruntime", "llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct"]
)
def test_names_of_models_and_types_are_no_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """`CACHE_KEY` may be a name: nothing is hidden or refused for it."""
    monkeypatch.setenv("CACHE_KEY", value)
    (tmp_path / "a.json").write_text(value)
    assert redact(f"build {value} now") == f"build {value} now"
    assert not secret_finder()(value)
    assert find_known_secrets(tmp_path) == []
    monkeypatch.setenv("CACHE_TOKEN", value)
    assert redact(f"build {value} now") == f"build {HIDDEN} now"


def test_passwords_of_netrc_and_git_are_hidden(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text(
        "machine hub.example login me password netrc-value-1\nmachine other.example\n"
        "  login you password netrc-value-2 account x\n"
    )
    (tmp_path / ".git-credentials").write_text("https://me:git-value-1@hub.example\n")
    found = secret_values({"HOME": str(tmp_path)})
    assert set(found) == {"netrc-value-1", "netrc-value-2", "git-value-1"}
    (tmp_path / "mine").write_text("default login me password own-value-1\n")
    found = secret_values({"HOME": "/no", "NETRC": str(tmp_path / "mine")})
    assert set(found) == {"own-value-1"}


def test_token_files_are_read_where_the_clients_put_them(tmp_path: Path) -> None:
    hub = tmp_path / ".cache" / "huggingface"
    hub.mkdir(parents=True)
    (hub / "token").write_text("from-the-file\n")
    (hub / "stored_tokens").write_text("[work]\nhf_token = stored-one\n")
    scope = tmp_path / ".modelscope" / "credentials"
    scope.mkdir(parents=True)
    (scope / "git_token").write_text("scope-git-token")
    found = secret_values({"HOME": str(tmp_path)})
    assert set(found) == {"from-the-file", "stored-one", "scope-git-token"}
    assert str(hub / "token") in found["from-the-file"]
    (tmp_path / "elsewhere").write_text("elsewhere-token")
    given = {"HF_TOKEN_PATH": str(tmp_path / "elsewhere"), "HF_HOME": "/nowhere", "HOME": "/no"}
    assert set(secret_values(given)) == {"elsewhere-token"}
    assert Path("/nowhere/stored_tokens") in token_files(given)


def test_what_no_login_leaves_is_not_read(tmp_path: Path) -> None:
    """A pipe would be waited for by every command."""
    os.mkfifo(tmp_path / "token")
    (tmp_path / "stored_tokens").write_text("hf_token = " + "a" * (2 << 20))
    assert secret_values({"HF_HOME": str(tmp_path), "HOME": "/no"}) == {}


def test_documents_are_redacted_before_they_become_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", 'a"b\\c-secret')
    document = {"a": ['x a"b\\c-secret', 1, None, True], 'a"b\\c-secret': {"n": 1.5}}
    clean = redact_value(document)
    assert clean == {"a": [f"x {HIDDEN}", 1, None, True], HIDDEN: {"n": 1.5}}


def test_streams_redact_what_libraries_write(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = io.StringIO()
    stream = RedactedStream(inner)
    monkeypatch.setenv("HF_TOKEN", "canary-value-1")
    assert stream.write("with canary-value-1\n") == 20
    stream.writelines(["Bearer canary-value-1", "\n"])
    stream.flush()
    assert inner.getvalue() == f"with {HIDDEN}\nBearer {HIDDEN}\n"


def test_known_secrets_are_found_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "long-canary-value-1")
    monkeypatch.setenv("FOO_KEY", "safetensors")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.json").write_text('{"x": "long-canary-value-1"}')
    (tmp_path / "b.bin").write_bytes(b"\xff\0safetensors long-canary-value-2")
    assert find_known_secrets(tmp_path) == ["`below/a.json` holds the value of `HF_TOKEN`"]
    monkeypatch.delenv("HF_TOKEN")
    assert find_known_secrets(tmp_path) == []
