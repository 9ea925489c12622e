import io
import json
import shutil
import tarfile

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch._dynamo.utils import counters

from easel.load import load_generator
from easel.speed import compile_cache
from easel.speed.compile_cache import (
    cache_folder,
    code_key,
    machine_key,
    point_torch_at,
    save_cache,
    use_cache,
)
from easel.speed.compiler import Compiler, Unavailable
from generation import GenerationRequest
from model_package.compile_cache import make_cache
from tests.conftest import ALL
from tests.model_package.conftest import QUICK


@pytest.fixture
def compiled(tmp_path):
    """Put compiled code where torch does; return the folder for an archive of it."""
    point_torch_at(cache_folder())
    (cache_folder() / "ab").mkdir()
    (cache_folder() / "ab" / "code.py").write_text("compiled")
    return tmp_path / "compiled"


def write_archive(path, files):
    with tarfile.open(path, "w:gz") as opened:
        for name, content in files.items():
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            opened.addfile(member, io.BytesIO(data))


def test_a_cache_comes_back_from_its_archive(compiled, tmp_path, monkeypatch):
    archive = save_cache(compiled)
    assert archive.name == f"{machine_key()}.tar.gz"
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]
    monkeypatch.setenv("HOME", str(tmp_path / "another"))
    assert use_cache([tmp_path, archive.parent]) is None
    assert (cache_folder() / "ab" / "code.py").read_text() == "compiled"
    assert cache_folder().is_relative_to(tmp_path / "another")


def test_a_broken_cache_or_one_that_reaches_outside_counts_as_none(tmp_path):
    archive = tmp_path / f"{machine_key()}.tar.gz"
    archive.write_bytes(b"not an archive")
    assert "cannot be unpacked" in use_cache([tmp_path])
    write_archive(archive, {"easel-code.json": {"code": code_key()}, "../../../outside": "a"})
    assert "cannot be unpacked" in use_cache([tmp_path])
    assert not list(tmp_path.rglob("outside"))


@pytest.mark.parametrize(
    "files",
    [
        {"ab/code.py": "compiled"},  # as archives were before they said which code made them
        {"easel-code.json": {"code": "another"}, "ab/code.py": "compiled"},
        {"easel-code.json": "no object", "ab/code.py": "compiled"},
    ],
)
def test_a_cache_that_other_code_made_is_refused_with_a_line_in_the_log(tmp_path, capsys, files):
    archive = tmp_path / f"{machine_key()}.tar.gz"
    write_archive(archive, files)
    with pytest.raises(Unavailable, match="another version of Easel's code"):
        Compiler([], [tmp_path]).start("auto")
    assert not cache_folder().exists()
    logged = json.loads(capsys.readouterr().out)
    assert (logged["event"], logged["archive"]) == ("compile_cache_refused", str(archive))
    assert "run model_package/compile_cache.py again" in logged["reason"]


def test_a_change_of_the_code_that_is_traced_refuses_its_older_caches(compiled, monkeypatch):
    save_cache(compiled)
    assert use_cache([compiled]) is None
    monkeypatch.setattr(compile_cache, "_TRACED", ("speed/eight_bits.py",))
    assert "another version" in use_cache([compiled])


def test_a_model_with_a_refused_cache_loads_and_generates(stand_in, tmp_path):
    folder = shutil.copytree(stand_in(), tmp_path / "model")
    (folder / "compiled").mkdir()
    write_archive(folder / "compiled" / f"{machine_key()}.tar.gz", {"ab/code.py": "compiled"})
    generator = load_generator(folder, {"EASEL_DEFAULTS": QUICK})
    assert "another version" in generator.describe()["speed"]["compile"]
    assert generator.generate(GenerationRequest(prompt="a cat", seed=7)).pixels.shape == (64, 64, 3)


@pytest.mark.slow
def test_what_was_compiled_ahead_is_not_compiled_again(stand_in, tmp_path, monkeypatch):
    """With torch's own compiler, in two homes, as on two machines of one kind.

    The UNet's whole blocks are compiled with --all, and otherwise a small part of each: the C++
    compiler takes seconds for each of their kernels.
    """
    if not ALL:
        monkeypatch.setattr(UNet2DConditionModel, "_repeated_blocks", ["GEGLU"])
        # Headers take as long as several kernels, and so small a part has one kernel.
        monkeypatch.setattr(torch._inductor.config, "cpp_cache_precompile_headers", False)
        # Else torch compiles a program for each of the CPU's instruction sets.
        monkeypatch.setattr(torch._inductor.config.cpp, "vec_isa_ok", False)
    folder = shutil.copytree(stand_in(), tmp_path / "model")
    environ = {"EASEL_DEFAULTS": QUICK, "EASEL_DTYPE": "fp32"}
    for name, text in environ.items():
        monkeypatch.setenv(name, text)
    make_cache(folder)
    assert counters["inductor"]["fxgraph_cache_miss"] > 0
    monkeypatch.setenv("HOME", str(tmp_path / "another"))
    torch._dynamo.reset()
    counters.clear()
    generator = load_generator(folder, environ)
    assert generator.describe()["speed"]["compile"] == "regional, cached"
    assert counters["inductor"]["fxgraph_cache_hit"] > 0
    assert counters["inductor"]["fxgraph_cache_miss"] == 0
    plain = load_generator(folder, {**environ, "EASEL_COMPILE": "off"})
    request = GenerationRequest(prompt="a cat", seed=7)
    difference = generator.generate(request).pixels.astype(int) - plain.generate(request).pixels
    assert abs(difference).max() <= 1
