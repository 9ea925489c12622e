"""This machine's own addresses: always called directly, and never served to other sites' pages."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, MutableMapping

# By what a container calls the machine that runs it: Docker's and Podman's names.
_CONTAINER_HOSTS = {"host.docker.internal", "host.containers.internal"}
_HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:]+)\]|(?P<name>[a-z0-9.-]+))(?::[0-9]{1,5})?")


def go_direct(variables: MutableMapping[str, str]) -> None:
    """Except this machine's addresses from the proxies that an environment configures.

    Programs differ in which spelling of the variable they read, and in which they prefer.
    """
    names = ("no_proxy", "NO_PROXY")
    hosts = [host.strip() for name in names for host in variables.get(name, "").split(",")]
    # `*` means all hosts, but only if it is alone.
    if "*" not in hosts:
        hosts = list(dict.fromkeys([*filter(None, hosts), "localhost", "127.0.0.1", "::1"]))
    else:
        hosts = ["*"]
    variables.update(dict.fromkeys(names, ",".join(hosts)))


def is_local(host: str) -> bool:
    """Whether a Host header, or the host and port of a URL, names this machine.

    A page of another site can have its own name resolve to 127.0.0.1 (DNS rebinding), but its
    requests carry that name. `*.localhost` always is this machine (RFC 6761), and a bucket can be
    addressed by it.
    """
    match = _HOST.fullmatch(host.lower())
    if match is None:
        return False
    name = (match["address"] or match["name"]).removesuffix(".")
    if name in _CONTAINER_HOSTS or name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def foreign_host(hosts: Iterable[str]) -> str | None:
    """Return the reason to refuse a request with these Host headers; None if there is none."""
    for host in hosts:
        if not is_local(host):
            return (
                "Only requests to this machine's own addresses are answered (localhost, 127.0.0.1)."
            )
    return None


def foreign_page(origins: Iterable[str], fetch_site: str) -> str | None:
    """Return the reason to refuse a request that a web page made; None if there is none.

    Args:
        origins: its Origin headers. Only browsers send them.
        fetch_site: its `Sec-Fetch-Site`, which browsers also send where they send no Origin.
    """
    for origin in origins:
        scheme, _, host = origin.partition("://")
        if scheme not in {"http", "https"} or not is_local(host):
            return "Pages of other sites are not answered."
    return "Pages of other sites are not answered." if fetch_site == "cross-site" else None
