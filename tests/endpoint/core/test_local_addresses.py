"""Which addresses are this machine's."""

from __future__ import annotations

import re
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoint.core.local_addresses import foreign_page, go_direct, is_local

LOCAL = ["localhost", "LocalHost", "localhost.", "127.0.0.1", "127.9.9.9", "[::1]", "b.localhost"]
LOCAL_HOST = re.compile(
    r"(?i)([a-z0-9.-]*localhost\.?|127[.0-9]+|\[[0:]*:0*1\]"
    r"|host\.(docker|containers)\.internal\.?)(:\d+)?"
)
FOREIGN = [
    "",
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.nip.io",
    "notlocalhost",
    "0.0.0.0",
    "192.168.0.7",
    "[::]",
    "::1",
    "localhost@evil.example",
    "evil.example@localhost",
    "localhost:80:80",
    "localhost/",
    "localhost, evil.example",
    "localhost\\evil.example",
    "[localhost",
]


@pytest.mark.parametrize("port", ["", ":8000"])
@pytest.mark.parametrize("host", LOCAL)
def test_this_machines_names_are_local_at_any_port(host, port):
    assert is_local(host + port)


@pytest.mark.parametrize("host", FOREIGN)
def test_other_names_are_not(host):
    assert not is_local(host)


@given(st.text(max_size=20), st.sampled_from(["localhost", "127.0.0.1", "[::1]"]))
def test_no_text_around_a_local_name_makes_another_host_local(text, name):
    for host in (text, f"{name}.{text}", f"{name}{text}", f"{text}.com"):
        if is_local(host):
            assert LOCAL_HOST.fullmatch(host)


def test_pages_of_this_machine_are_answered_and_no_others():
    assert foreign_page(["http://localhost:8000"], "same-site") is None
    assert foreign_page([], "") is None
    for origin in ("null", "https://evil.example", "file://localhost", "http://localhost.evil"):
        assert foreign_page([origin], "")
    assert foreign_page([], "cross-site")
    assert foreign_page(["http://localhost", "http://evil.example"], "")


@pytest.mark.parametrize("given_hosts", [{}, {"no_proxy": "a.example"}, {"NO_PROXY": "b.example,"}])
def test_this_machine_is_called_directly(monkeypatch, given_hosts):
    variables = dict(given_hosts)
    go_direct(variables)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, variables[name])
    for host in ("localhost", "127.0.0.1:8000", *given_hosts.values()):
        assert urllib.request.proxy_bypass_environment(host.rstrip(","))
    assert not urllib.request.proxy_bypass_environment("www.example.org")


def test_no_proxy_for_any_host_stays_so():
    variables = {"no_proxy": "*"}
    go_direct(variables)
    assert variables == {"no_proxy": "*", "NO_PROXY": "*"}
