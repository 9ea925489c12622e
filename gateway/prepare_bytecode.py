"""Bytecode in the zips that chalice makes, so that a cold start of the function compiles nothing.

Lambda's task folder is read-only: without bytecode in the zip, every cold start compiles every
module that it imports. `app.py` calls `compile_packages` whenever one of chalice's commands imports
it, so `chalice package` and `chalice deploy` both ship bytecode.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from chalice.deploy.packager import LambdaDeploymentPackager as Packager
from click import ClickException

# Where Lambda unpacks the zip; tracebacks name files by it.
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html (LAMBDA_TASK_ROOT)
_TASK_ROOT = "/var/task"
# The earliest time that a zip can state: the same content makes the same zip.
_TIME = (1980, 1, 1, 0, 0, 0)
_CREATE = Packager.create_deployment_package
_FILES = Packager._iter_app_filenames


def compile_packages() -> None:
    """Have this process's chalice add bytecode to the zips that it makes."""
    # Chalice has no setting for a step after the zip.
    Packager.create_deployment_package = _create_with_bytecode  # type: ignore[assignment, method-assign]
    Packager._iter_app_filenames = _source_files  # type: ignore[assignment, method-assign]


def _source_files(packager: Packager, project_dir: str) -> Iterator[tuple[str, str]]:
    """Yield the paths of the app's files, without bytecode that Python wrote beside them.

    Chalice names a zip after the hash of these files: with this machine's bytecode, which names the
    project's folder, it would find an earlier zip of the same sources neither from another folder
    nor after another module was imported, and fetch and compress all requirements again.
    """
    files = _FILES(packager, project_dir)
    return (file for file in files if not file[0].endswith(".pyc"))


def _create_with_bytecode(packager: Packager, project_dir: str, python_version: str) -> str:
    # What is compressed below need not be compressed before.
    packager._osutils.ZIP_DEFLATED = zipfile.ZIP_STORED
    package = Path(_CREATE(packager, project_dir, python_version))
    if not zipfile.is_zipfile(package):
        # Left by a chalice that was killed; chalice takes every zip for a whole one.
        package.unlink()
        _CREATE(packager, project_dir, python_version)
    add_bytecode(package, python_version)
    return str(package)


def add_bytecode(package: Path, runtime: str) -> None:
    """Add the bytecode of every module to a zip, unless it is there already.

    It is hash-based and unchecked (PEP 552): Lambda sets the time stamps of the files, and nobody
    changes the source afterwards.

    Args:
        package: the zip.
        runtime: Lambda's name of the Python that will run it, such as `python3.12`.

    Raises:
        ClickException: if this Python is another version, whose bytecode the runtime ignores.
    """
    if runtime != (running := "python{}.{}".format(*sys.version_info)):
        raise ClickException(
            f"the function would run {runtime}; package it with that, not {running}"
        )
    with zipfile.ZipFile(package) as archive, tempfile.TemporaryDirectory() as place:
        modules = [each for each in archive.infolist() if not each.filename.endswith(".pyc")]
        # Chalice zips what Python wrote beside chalicelib/, and never anything beside app.py.
        if f"__pycache__/app.{sys.implementation.cache_tag}.pyc" in archive.namelist():
            return
        archive.extractall(place, modules)
        _compile(place)
        # Beside it and then renamed, so that a zip with bytecode is a whole one.
        whole = package.with_suffix(".tmp")
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as target:
            for each in modules:
                # Most of it is botocore's data, which is compressed already.
                packed = each.filename.endswith(".gz")
                kind = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
                target.writestr(each, archive.read(each), kind)
            for path in sorted(Path(place).rglob("*.pyc")):
                entry = zipfile.ZipInfo(path.relative_to(place).as_posix(), _TIME)
                entry.external_attr = 0o644 << 16
                target.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    whole.replace(package)


def _compile(folder: str) -> None:
    # A process of its own: what marshal writes depends on which strings a process knows already.
    command = [sys.executable, "-I", "-m", "compileall", "-q", "-j", "0"]
    command += ["--invalidation-mode", "unchecked-hash", "-s", folder, "-p", _TASK_ROOT]
    subprocess.run([*command, folder], check=True)  # noqa: S603 - our own interpreter
