import io
import json
import tarfile

import pytest

from model_package.demo.artwork import draw_icon, fetch, read_icons

RED_SQUARE = '<path fill="#f00" d="M32 32h64v64H32z"/>'


def pack(folder, **files):
    archive = folder / "iconify-json-noto-1.2.9.tgz"
    with tarfile.open(archive, "w:gz") as package:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"package/{name}.json")
            entry.size = len(text.encode())
            package.addfile(entry, io.BytesIO(text.encode()))
    return archive


def test_an_icon_is_drawn_on_nothing():
    picture = draw_icon(RED_SQUARE)
    assert picture.size == (128, 128)
    assert picture.getpixel((64, 64)) == (255, 0, 0, 255)
    assert picture.getpixel((5, 5))[3] == 0


def test_icons_are_read_from_the_package(tmp_path):
    icons = {"icons": {"square": {"body": RED_SQUARE}}}
    assert read_icons(pack(tmp_path, icons=json.dumps(icons))) == {"square": RED_SQUARE}


def test_an_existing_package_is_not_fetched_again(tmp_path):
    archive = pack(tmp_path, icons="{}")
    assert fetch(tmp_path) == archive


def test_a_package_without_icons_is_named(tmp_path):
    with pytest.raises(KeyError, match=r"icons\.json"):
        read_icons(pack(tmp_path, info="{}"))
