"""Which ModelScope is asked, and in whose name."""

from __future__ import annotations

import pytest

from pipeline.errors import MachineError
from pipeline.sources.http.addresses import Misdirected, check_address
from pipeline.sources.modelscope.site import Site, find_site


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, "https://modelscope.cn"),
        ({"MODELSCOPE_PREFER_AI_SITE": "true"}, "https://www.modelscope.ai"),
        ({"MODELSCOPE_PREFER_AI_SITE": "no"}, "https://modelscope.cn"),
        ({"MODELSCOPE_DOMAIN": "mirror.example"}, "https://mirror.example"),
        ({"MODELSCOPE_DOMAIN": "https://mirror.example/ms/"}, "https://mirror.example/ms"),
        ({"MODELSCOPE_ENDPOINT": "HTTPS://Mirror.example"}, "HTTPS://Mirror.example"),
        ({"MODELSCOPE_ENDPOINT": "http://127.0.0.1:80"}, "http://127.0.0.1:80"),
        ({"MODELSCOPE_ENDPOINT": "http://localhost:8080/"}, "http://localhost:8080"),
        ({"MODELSCOPE_ENDPOINT": "http://[::1]:8080"}, "http://[::1]:8080"),
        (
            {"MODELSCOPE_ENDPOINT": "a.example", "MODELSCOPE_DOMAIN": "b.example"},
            "https://a.example",
        ),
        ({"MODELSCOPE_ENDPOINT": " ", "MODELSCOPE_DOMAIN": "b.example"}, "https://b.example"),
    ],
)
def test_endpoint(environ: dict[str, str], endpoint: str) -> None:
    assert find_site(environ).endpoint == endpoint


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("http://mirror.example", "names `mirror.example` without encryption"),
        ("https://user:secret-word@mirror.example", "with a name and password"),
        ("https://mirror.example?a=b", "more than an address"),
        ("https://", "an address without a host"),
        ("mirror example", "an address that is not one"),
        ("http://[::1", "is not an address"),
    ],
)
def test_endpoints_that_are_none(value: str, reason: str) -> None:
    with pytest.raises(MachineError, match=reason) as told:
        find_site({"MODELSCOPE_ENDPOINT": value})
    assert "secret-word" not in str(told.value)
    assert "https://" in (told.value.hint or "")


def test_token() -> None:
    site = find_site({"MODELSCOPE_API_TOKEN": " ms-1234 \n"})
    assert site.secret_headers() == {
        "Authorization": "Bearer ms-1234",
        "Cookie": "m_session_id=ms-1234",
    }
    assert "ms-1234" not in repr(site)


@pytest.mark.parametrize("environ", [{}, {"MODELSCOPE_API_TOKEN": ""}])
def test_no_token(environ: dict[str, str]) -> None:
    assert find_site(environ).secret_headers() == {}


@pytest.mark.parametrize("token", ["a\r\nX: y", "a b", "a;b", "\u00e4", "x" * 5000])
def test_tokens_that_are_none(token: str) -> None:
    with pytest.raises(MachineError, match="is not a token") as told:
        find_site({"MODELSCOPE_API_TOKEN": token})
    assert token not in str(told.value)


@pytest.mark.parametrize(
    "address",
    [
        "https://127.0.0.1/x",
        "https://localhost./x",
        "https://[::1]/x",
        "http://127.8.9.1/",
        "http://example.org/",
    ],
)
def test_nothing_leads_from_the_network_to_this_machine(address: str) -> None:
    with pytest.raises(Misdirected):
        check_address(address, loopback=False)


def test_a_mirror_on_this_machine_may_lead_away() -> None:
    assert check_address("https://cdn.example/x", loopback=True).hostname == "cdn.example"
    with pytest.raises(Misdirected):
        check_address("http://cdn.example/x", loopback=True)


def test_host() -> None:
    assert Site("http://127.0.0.1:8080").host == "127.0.0.1:8080"


def test_what_one_site_said_is_not_said_by_another() -> None:
    assert Site().memory_name("a/b") == "@modelscope/a/b"
    other = Site("https://www.modelscope.ai").memory_name("a/b")
    assert other == "@modelscope-https%3A%2F%2Fwww.modelscope.ai/a/b"
    assert (Site().elsewhere, Site("https://x.example").elsewhere) == (None, "https://x.example")
