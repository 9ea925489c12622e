"""The page's main ways in WebKit, which WebDriver opens as Safari's private windows are.

There IndexedDB opens, and stores anything but a picture.
"""

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from endpoint.emulator.process.http_server import serving
from tests.browsers.webkit import webkit
from tests.end_to_end.access import KEY
from tests.end_to_end.account import ASYNC_ENDPOINT, ENDPOINT
from tests.end_to_end.calls import async_url, prompts
from tests.end_to_end.conftest import SHORT_DEADLINE
from tests.end_to_end.doubles import Album, other_site

pytestmark = [
    pytest.mark.browser,
    pytest.mark.own_environment,
    # Selenium's own, to itself.
    pytest.mark.filterwarnings("ignore:setting remote_server_addr:DeprecationWarning"),
]
WIDTH = """
    const [image, done] = arguments;
    image.decode().then(() => done(image.naturalWidth), error => done(String(error)));"""


class Window:
    """What can be done with the page; everything waits until it can be done."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, url):
        self.driver.get(url)
        return self

    def shown(self, selector, words=""):
        """Return the element, once it can be seen and has these words in it."""
        return self._wait(
            lambda: next(
                (
                    element
                    for element in self.driver.find_elements(By.CSS_SELECTOR, selector)
                    if element.is_displayed() and words in element.text
                ),
                None,
            )
        )

    def press(self, name):
        path = f"//*[self::button or self::a][normalize-space()='{name}']"
        self._wait(
            lambda: next(
                (each for each in self.driver.find_elements(By.XPATH, path) if each.is_displayed()),
                None,
            )
        ).click()

    def ask(self, prompt):
        box = self.shown("#prompt")
        self.shown("#options")
        box.clear()
        box.send_keys(prompt, Keys.ENTER)

    def paint(self, prompt):
        self.ask(prompt)
        self.painted(prompt)

    def painted(self, prompt):
        self.shown("#words", prompt)
        assert self.width(self.shown("#picture")) == 64
        self._wait(lambda: self.said().startswith("Painted in "))

    def said(self):
        return self.driver.find_element(By.CSS_SELECTOR, "[role=status]").get_property(
            "textContent"
        )

    def width(self, image):
        return self.driver.execute_async_script(WIDTH, image)

    def cards(self):
        return len(self.driver.find_elements(By.CSS_SELECTOR, "#cards > li"))

    def images(self):
        return self.driver.find_elements(By.CSS_SELECTOR, "img")

    def _wait(self, condition):
        return WebDriverWait(self.driver, 30, poll_frequency=0.1).until(lambda _: condition())


@pytest.fixture(scope="module")
def driver():
    with webkit() as driver:
        yield driver


@pytest.fixture
def window(driver):
    yield Window(driver)
    driver.delete_all_cookies()


def test_pictures_stay_in_the_page_where_none_can_be_kept(window, chalice_local, emulator):
    window.open(f"{chalice_local}/")
    for prompt in ("one", "two", "three"):
        window.paint(prompt)

    assert prompts(emulator) == ["one", "two", "three"]
    assert window.cards() == 3
    window.shown("#kept", "This browser keeps nothing for this page")
    window.shown("#cards > li:last-child button").click()
    window.painted("one")


def test_a_slow_picture_is_waited_for_over_a_reload(window, impatient_local, emulator, prompt):
    window.open(f"{impatient_local}/").shown("#model option[value=sdxl]").click()
    with emulator.fault(ASYNC_ENDPOINT, "slow", seconds=8, times=1):
        window.ask(prompt)
        window.shown("#expected", "waiting in the queue")
        window.driver.refresh()
        window.painted(prompt)

    assert emulator.runs(ASYNC_ENDPOINT) == 1


def test_a_key_signs_in_once_and_paints_from_then_on(window, guarded_local):
    window.open(f"{guarded_local}/").ask("a red apple")
    key = window.shown("#key")
    key.send_keys("wrong", Keys.ENTER)
    window.shown("#key-wrong", "Unknown or expired key")
    key.clear()
    key.send_keys(KEY, Keys.ENTER)
    window.painted("a red apple")

    window.driver.refresh()
    window.paint("a green apple")
    window.open(f"{guarded_local}/inference/a%20blue%20apple?seed=7")
    assert window.width(window.images()[0]) == 64


def test_an_error_is_shown_in_words_and_tried_again(window, chalice_local, emulator):
    window.open(f"{chalice_local}/")
    with emulator.fault(ENDPOINT, "failing", times=1):
        window.ask("a red apple")
        window.shown("#wrong", "The model failed to generate this picture.")
    window.press("Try again")

    window.painted("a red apple")


def test_a_navigation_that_fails_shows_a_page_with_a_way_back(window, chalice_local, emulator):
    with emulator.fault(ENDPOINT, "failing"):
        window.open(f"{chalice_local}/inference/a%20red%20apple")
    window.shown("h1", "No picture this time")
    window.press("Back to the easel")

    window.shown("#prompt")


def test_an_image_element_of_any_site_shows_the_picture(window, impatient_local, emulator, prompt):
    """At once, by a redirect to the address with its seed, by one to S3, or by waiting."""
    path = f"{impatient_local}/inference"
    addresses = [
        f"{path}/a%20red%20apple?seed=7",
        f"{path}?prompt=a%20green%20apple",
        async_url(impatient_local, f"noise {prompt}", width=1_536, height=1_536),
    ]
    with serving(Album) as album:
        window.open(other_site(album, *addresses))
        assert [window.width(image) for image in window.images()] == [64, 64, 1_536]

        with emulator.fault(ASYNC_ENDPOINT, "slow", seconds=SHORT_DEADLINE + 1, times=1):
            window.open(other_site(album, async_url(impatient_local, prompt)))
            assert window.width(window.images()[0]) == 64
