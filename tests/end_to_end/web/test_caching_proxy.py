"""The gateway behind a real caching proxy, nginx, that keeps whatever it may."""

import os
import subprocess
from contextlib import contextmanager

import pytest
import requests

from endpoint.emulator.process.processes import free_port
from tests.browsers.launch import find, missing
from tests.conftest import ALL
from tests.end_to_end.access import AUTHORIZED, create_link
from tests.end_to_end.account import ENDPOINT
from tests.end_to_end.calls import get, is_picture, picture_url

pytestmark = pytest.mark.skipif(not ALL, reason="nginx: with --all")
CONFIGURATION = """
{user}daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  proxy_cache_path {folder}/cache keys_zone=pictures:1m;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass {origin};
      proxy_set_header Host $http_host;
      proxy_cache pictures;
      add_header X-Kept $upstream_cache_status always;
    }}
  }}
}}
"""


@contextmanager
def proxy(folder, gateway_url):
    """Run nginx in front of a gateway, and return the URL to use in its place."""
    program = find("nginx", "/usr/sbin/nginx") or missing("nginx (Debian's package nginx-light)")
    port, origin = free_port(), gateway_url.removesuffix("/api")
    file = folder / "nginx.conf"
    # Its workers would otherwise be somebody who may not read the folder.
    user = "user root; " if os.getuid() == 0 else ""
    file.write_text(CONFIGURATION.format(user=user, folder=folder, port=port, origin=origin))
    url = f"http://127.0.0.1:{port}/api"
    with subprocess.Popen([program, "-p", str(folder), "-c", str(file)]) as nginx:
        try:
            _wait_for(url, nginx)
            yield url
        finally:
            nginx.terminate()


def _wait_for(url, nginx):
    while nginx.poll() is None:
        try:
            requests.get(f"{url}/health", timeout=10)
        except requests.ConnectionError:
            continue
        return
    pytest.fail("nginx ended")


def kept(response):
    return response.headers["X-Kept"] == "HIT"


def test_fixed_pictures_are_kept_and_random_ones_are_not(tmp_path, chalice_local, emulator, prompt):
    with proxy(tmp_path, chalice_local) as url:
        fixed = [get(picture_url(url, prompt, seed=1)) for _ in range(3)]
        random = [get(picture_url(url, prompt)) for _ in range(3)]
        other = get(picture_url(url, prompt, seed=1, steps=9))

    assert all(is_picture(each.content) for each in (*fixed, *random, other))
    assert [kept(each) for each in fixed] == [False, True, True]
    assert not any(kept(each) for each in (*random, other))
    assert emulator.runs(ENDPOINT) == 5


def test_what_a_key_or_a_link_opened_is_kept_for_nobody(tmp_path, guarded_local, prompt):
    with proxy(tmp_path, guarded_local) as url:
        token = create_link(url, pictures=1)
        address = picture_url(url, prompt, model="stored", seed=7)
        responses = [
            get(place, headers=headers)
            for _ in range(2)
            for place, headers in ((address, AUTHORIZED), (f"{address}&link={token}", {}))
        ]
        refused = get(address)

    assert {each.status_code for each in responses} == {200}
    assert len({each.content for each in responses}) == 1
    assert not any(kept(each) for each in (*responses, refused))
    assert refused.status_code == 401
