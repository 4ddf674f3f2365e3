"""Variables of the hub client that it would fail on are named, before it is imported."""

from __future__ import annotations

import pytest

from pipeline.errors import MachineError
from pipeline.sources.hub import settings
from pipeline.sources.hub.settings import check_settings


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HF_HUB_DOWNLOAD_TIMEOUT": "30", "HF_HUB_ETAG_TIMEOUT": ""},
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
        *(("HF_HUB_DOWNLOAD_TIMEOUT", text) for text in ("abc", "1.5", "-1", "²", "9" * 20)),
        ("HF_HUB_ETAG_TIMEOUT", "soon"),
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
            )
        ),
    ],
)
def test_what_it_does_not_take_is_named(name: str, value: str) -> None:
    with pytest.raises(MachineError, match=f"`{name}` is") as caught:
        check_settings({name: value})
    assert caught.value.hint


def test_a_socks_proxy_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "find_spec", lambda name: None)
    with pytest.raises(MachineError, match="`ALL_PROXY` names a SOCKS proxy"):
        check_settings({"all_proxy": "socks5://127.0.0.1:1"})
    monkeypatch.setattr(settings, "find_spec", lambda name: object())
    check_settings({"all_proxy": "socks5://127.0.0.1:1"})
