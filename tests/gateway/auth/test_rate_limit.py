"""Pictures in a minute."""

import pytest

from chalicelib.auth.rate_limit import RateLimiter, client_of
from chalicelib.errors import RateLimited


class Clock:
    moment = 1_000.0

    def __call__(self):
        return self.moment


@pytest.fixture
def clock():
    return Clock()


def test_a_client_has_the_limit_in_any_60_seconds(clock):
    limits = RateLimiter(now=clock)
    granted = []
    for second in range(0, 300, 7):
        clock.moment = 1_000.0 + second
        try:
            limits.take("ada", 3)
            granted.append(second)
        except RateLimited:
            pass

    assert len(granted) >= 3 * 300 / 60 - 1
    for start in granted:
        assert sum(start <= each < start + 60 for each in granted) <= 3


def test_a_refusal_says_when_there_is_a_picture_again(clock):
    limits = RateLimiter(now=clock)
    limits.take("ada", 2)
    clock.moment += 20
    limits.take("ada", 2)
    with pytest.raises(RateLimited) as refused:
        limits.take("ada", 2)

    assert refused.value.retry_after == 41
    clock.moment += 41
    limits.take("ada", 2)


def test_the_headers_report_what_is_left(clock):
    limits = RateLimiter(now=clock)
    limits.take("ada", 5)
    clock.moment += 10

    assert limits.take("ada", 5) == {
        "RateLimit-Policy": '"pictures";q=5;w=60',
        "RateLimit": '"pictures";r=3;t=51',
    }


def test_clients_are_counted_separately(clock):
    limits = RateLimiter(now=clock)
    limits.take("ada", 1)

    assert limits.take("bob", 1)["RateLimit"].startswith('"pictures";r=0')


def test_only_the_most_recent_clients_are_stored(clock):
    limits = RateLimiter(max_clients=3, now=clock)
    for name in "abcd":
        limits.take(name, 1)

    assert len(limits._moments) == 3
    limits.take("a", 1)
    with pytest.raises(RateLimited):
        limits.take("d", 1)


def test_a_network_of_ipv6_is_one_client():
    assert client_of("2001:db8::1") == client_of("2001:db8::ffff:1") == "2001:db8::/64"
    assert client_of("2001:db8:0:1::1") != client_of("2001:db8::1")
    assert client_of("192.0.2.1") == "192.0.2.1"
    assert client_of("") == client_of("nonsense\n") == "unknown"
