"""The accounts of links: in memory, and in a real S3 protocol with 50 uses at once."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ReadTimeoutError

from chalicelib.auth.link_quota import RUNS_PER_PICTURE, LinkQuota
from chalicelib.aws.s3 import Store
from chalicelib.errors import RateLimited, StoreUnavailable
from chalicelib.web.principal import Link
from tests.gateway.doubles import Breaks, Bucket, Provided

LINK = Link("0123456789abcdef", 4_000_000_000, 3)


@pytest.fixture
def breaks():
    return Breaks()


@pytest.fixture
def quota(breaks):
    return LinkQuota(Store(Provided(Bucket(breaks)), "bucket", "links/"))


def outcomes(work, each):
    """Return what each use came to, all of them at once: True if it was allowed."""

    def use(one):
        try:
            work(one)
        except RateLimited:
            return False
        return True

    with ThreadPoolExecutor(len(each)) as pool:
        return list(pool.map(use, each))


def test_a_link_is_good_for_its_number_of_pictures(quota):
    assert [quota.spend(LINK, name) for name in "abc"] == [2, 1, 0]
    with pytest.raises(RateLimited, match="no pictures left") as refused:
        quota.spend(LINK, "d")
    assert refused.value.retry_after > 0


def test_the_same_request_is_charged_once_and_runs_a_few_times(quota):
    lefts = [quota.spend(LINK, "a") for _ in range(RUNS_PER_PICTURE)]

    assert set(lefts) == {2}
    with pytest.raises(RateLimited, match="as often as allowed"):
        quota.spend(LINK, "a")
    assert quota.spend(LINK, "b") == 1


def test_links_have_accounts_of_their_own(quota):
    for name in "abc":
        quota.spend(LINK, name)

    assert quota.spend(Link("fedcba9876543210", LINK.expires, 1), "a") == 0


def test_a_refund_can_be_spent_again(quota):
    for name in "abc":
        quota.spend(LINK, name)
    quota.refund(LINK, "b")
    quota.refund(LINK, "nobody's")

    assert quota.spend(LINK, "d") == 0
    with pytest.raises(RateLimited):
        quota.spend(LINK, "b")


def test_a_refund_does_not_undo_another_run(quota):
    quota.spend(LINK, "a")
    quota.spend(LINK, "a")
    quota.refund(LINK, "a")

    assert quota.spend(LINK, "b") == 1


def test_two_requests_that_read_the_same_quota_are_both_counted(quota, breaks):
    breaks.interrupt(1, lambda: quota.spend(LINK, "b"))

    assert quota.spend(LINK, "a") == 1
    assert quota.spend(LINK, "c") == 0


def test_nothing_is_granted_while_s3_does_not_respond():
    class Silent:
        def get_object(self, **_):
            raise ReadTimeoutError(endpoint_url="u")

    with pytest.raises(StoreUnavailable):
        LinkQuota(Store(Provided(Silent()), "bucket", "links/")).spend(LINK, "a")


@pytest.mark.parametrize("pictures", [1, 7, 20])
def test_exactly_so_many_of_50_parallel_uses_are_allowed(s3, pictures):
    quota = LinkQuota(Store(Provided(s3), "easel-links", "links/"))
    link = Link(f"parallel{pictures}", LINK.expires, pictures)
    allowed = outcomes(lambda name: quota.spend(link, name), [f"p{n}" for n in range(50)])

    assert sum(allowed) == pictures
    with pytest.raises(RateLimited):
        quota.spend(link, "one more")


def test_50_parallel_resends_of_one_request_pay_once(s3):
    quota = LinkQuota(Store(Provided(s3), "easel-links", "links/"))
    link = Link("resends", LINK.expires, 2)
    allowed = outcomes(lambda _: quota.spend(link, "the same"), range(50))

    assert sum(allowed) == RUNS_PER_PICTURE
    assert quota.spend(link, "another") == 0
