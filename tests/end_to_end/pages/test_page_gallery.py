"""The page at `/api/`: the gallery."""

import pytest
from playwright.sync_api import expect

from tests.end_to_end.studio import PAINTED

pytestmark = pytest.mark.browser


def test_the_gallery_survives_a_reload(studio):
    studio.open().paint("a red apple").paint("a green apple")
    studio.page.reload()

    expect(studio.cards).to_have_count(2)
    expect(studio.page.locator("#words")).to_have_text("a green apple")
    assert studio.picture.evaluate(PAINTED) == 64
    studio.page.get_by_role("button", name="a red apple, painted").click()
    expect(studio.page.locator("#words")).to_have_text("a red apple")


def test_pictures_are_removed_one_by_one_or_all_at_once(studio):
    studio.open().paint("one").paint("two").paint("three")
    studio.button("Remove").click()
    studio.announced("Removed.")
    studio.page.reload()
    expect(studio.cards).to_have_count(2)

    studio.button("Remove all").click()
    studio.button("Keep them").click()
    expect(studio.cards).to_have_count(2)
    studio.button("Remove all").click()
    studio.page.get_by_role("dialog").get_by_role("button", name="Remove all").click()
    studio.announced("All pictures are removed.")
    studio.page.reload()
    expect(studio.page.get_by_text("Your picture will stand here.")).to_be_visible()
    expect(studio.cards).to_have_count(0)


def test_the_oldest_pictures_make_room(studio):
    old = """async () => {
        for (let n = 0; n < 205; n += 1) {
            const blob = await (await fetch("inference/old?seed=1")).blob();
            await gallery.keep({ id: `old-${n}`, request: { prompt: `old ${n}`, seed: n }, made: n,
                                 state: "done", seconds: 1, blob, width: 64, height: 64 });
        }
    }"""
    studio.open()
    studio.page.evaluate(old)
    studio.page.reload()
    studio.paint("a new one")
    studio.page.reload()

    expect(studio.cards).to_have_count(200)
    assert studio.page.get_by_role("button", name="a new one, painted").is_visible()
    assert studio.page.get_by_role("button", name="old 204, painted").count() == 1
    assert studio.page.get_by_role("button", name="old 5, painted").count() == 0


def test_a_full_disk_costs_the_oldest_picture_and_not_the_newest(studio):
    full = """
        const { put, delete: drop } = IDBObjectStore.prototype;
        IDBObjectStore.prototype.put = function (record) {
            if (window.full) throw new DOMException("full", "QuotaExceededError");
            return put.call(this, record);
        };
        IDBObjectStore.prototype.delete = function (id) {
            window.full = false;
            return drop.call(this, id);
        };"""
    studio.page.add_init_script(full)
    studio.open().paint("one").paint("two")
    studio.page.evaluate("window.full = true")
    studio.paint("three")
    studio.page.reload()

    expect(studio.cards).to_have_count(2)
    assert studio.page.get_by_role("button", name="three, painted").is_visible()
    assert studio.page.get_by_role("button", name="one, painted").count() == 0


def test_where_the_browser_keeps_nothing_the_page_says_so_and_paints(studio):
    refuse = "Object.defineProperty(window, 'indexedDB', { get() { throw new Error('no'); } })"
    studio.page.add_init_script(refuse)
    studio.open().paint("a red apple")

    expect(studio.page.get_by_text("This browser keeps nothing for this page")).to_be_visible()
    expect(studio.cards).to_have_count(1)


@pytest.mark.parametrize("when", ["at once", "later"])
def test_where_the_browser_keeps_no_picture_no_older_one_is_removed_for_it(studio, when):
    """In WebKit's private windows IndexedDB opens, and stores anything but a Blob."""
    refuse = """
        const put = IDBObjectStore.prototype.put;
        IDBObjectStore.prototype.put = function (record) {
            if (!record.blob) return put.call(this, record);
            if (WHEN) throw new DOMException("Error preparing Blob data", "UnknownError");
            const request = put.call(this, { id: record.id });
            this.transaction.abort();
            return request;
        };""".replace("WHEN", "true" if when == "at once" else "false")
    studio.page.add_init_script(refuse)
    studio.open().paint("one").paint("two").paint("three")

    expect(studio.cards).to_have_count(3)
    expect(studio.page.get_by_text("This browser keeps nothing for this page")).to_be_visible()
    studio.page.get_by_role("button", name="one, painted").click()
    assert studio.picture.evaluate(PAINTED) == 64


def test_a_disk_without_any_room_keeps_the_pictures_in_the_page(studio):
    full = """IDBObjectStore.prototype.put = () => {
        throw new DOMException("full", "QuotaExceededError");
    };"""
    studio.page.add_init_script(full)
    studio.open().paint("one")

    expect(studio.page.get_by_text("This browser has no room left")).to_be_visible()
    assert studio.picture.evaluate(PAINTED) == 64
