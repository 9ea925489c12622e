"""The page's main ways in Firefox: tests of other files, with another browser."""

import pytest

from tests.browsers.launch import firefox
from tests.end_to_end.browsers.test_browser import (
    test_a_navigation_that_fails_shows_a_page_with_a_way_back,
    test_an_image_element_of_any_site_shows_the_picture,
    test_an_image_element_of_any_site_waits_for_a_slow_picture,
)
from tests.end_to_end.pages.test_page import (
    test_what_is_typed_is_painted_and_its_link_gives_the_same_picture,
)
from tests.end_to_end.pages.test_page_async import test_a_reload_in_the_middle_goes_on_waiting
from tests.end_to_end.pages.test_page_errors import test_a_wrong_field_is_marked_and_led_to
from tests.end_to_end.pages.test_page_gallery import test_the_gallery_survives_a_reload
from tests.end_to_end.pages.test_signing_in import test_a_key_signs_in_once_and_paints_from_then_on
from tests.end_to_end.studio import Studio

__all__ = [
    "test_a_key_signs_in_once_and_paints_from_then_on",
    "test_a_navigation_that_fails_shows_a_page_with_a_way_back",
    "test_a_reload_in_the_middle_goes_on_waiting",
    "test_a_wrong_field_is_marked_and_led_to",
    "test_an_image_element_of_any_site_shows_the_picture",
    "test_an_image_element_of_any_site_waits_for_a_slow_picture",
    "test_the_gallery_survives_a_reload",
    "test_what_is_typed_is_painted_and_its_link_gives_the_same_picture",
]
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    with firefox() as browser:
        yield browser


@pytest.fixture
def gateway_url(chalice_local):
    """One kind of gateway is enough for a browser."""
    return chalice_local


@pytest.fixture
def guarded_url(guarded_local):
    return guarded_local


@pytest.fixture
def queued(page, impatient_local):
    studio = Studio(page, impatient_local).open()
    studio.option("Model").select_option("sdxl")
    return studio
