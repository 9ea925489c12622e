"""Work that moto and botocore repeat at each call, done once: these tests mostly make calls.

Nothing here changes a response, but for the random ids in them. `install` patches a process once;
`unhashed_signatures` is undone at its end.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from string import ascii_letters, digits
from types import SimpleNamespace
from typing import Any

from botocore import utils
from botocore.auth import SigV4Auth
from botocore.loaders import JSONFileLoader, Loader
from moto.cloudformation import models as cloudformation_models
from moto.core import serialize
from moto.core.base_backend import BaseBackend
from moto.moto_api._internal.moto_random import MotoRandom


def install() -> None:
    """Let this process make calls to moto in less time."""
    for once in (
        _read_descriptions,
        _parse_templates,
        _list_addresses,
        _name_members,
        _read_times,
        _choose_letters,
    ):
        once()


@cache
def _read_descriptions() -> None:
    """Each session of botocore parses the descriptions of its services, which takes long."""
    files: Any = JSONFileLoader()
    files.load_file = cache(files.load_file)
    Loader.FILE_LOADER_CLASS = staticmethod(lambda: files)  # type: ignore[assignment]


@cache
def _parse_templates() -> None:
    """Moto parses each template in pure Python, at every call that needs it."""
    models: Any = cloudformation_models
    load, parsed = models.yaml.load, {}

    def parse_once(text: str, **options: Any) -> Any:
        key = text, repr(options)
        if key not in parsed:
            parsed[key] = pickle.dumps(load(text, **options))
        return pickle.loads(parsed[key])  # noqa: S301 - pickled above

    models.yaml = SimpleNamespace(**{**vars(models.yaml), "load": parse_once})


@cache
def _list_addresses() -> None:
    """Moto lists a service's addresses again for each call."""
    listed: Any = BaseBackend.urls
    urls_by_type: dict[type, dict[str, Any]] = {}

    def urls(self: BaseBackend) -> dict[str, Any]:
        kind = type(self)
        if kind not in urls_by_type:
            urls_by_type[kind] = listed.fget(self)
        return urls_by_type[kind]

    BaseBackend.urls = property(urls)  # type: ignore[assignment]


@cache
def _name_members() -> None:
    """Moto derives the names that a member of a response may have in an object of its own."""
    derive = serialize.XFormedAttributePicker.get_possible_keys
    names_by_member: dict[tuple[type, Any, str], list[str]] = {}

    def names(self: Any, context: serialize.AttributePickerContext) -> Any:
        place = (type(context.obj), context.shape, context.key)
        if place not in names_by_member:
            names_by_member[place] = list(dict.fromkeys(derive(self, context)))
        return names_by_member[place]

    serialize.XFormedAttributePicker.get_possible_keys = names  # type: ignore[method-assign]


@cache
def _read_times() -> None:
    """The parser reads any notation of a time; the world has few times, each in many responses."""
    utils._parse_timestamp_with_tzinfo = cache(utils._parse_timestamp_with_tzinfo)


@cache
def _choose_letters() -> None:
    """Each response has an id of 52 random letters, which moto chooses one by one."""

    def string(
        self: MotoRandom, length: int = 20, include_digits: bool = True, lower_case: bool = False
    ) -> str:
        pool = ascii_letters + (digits if include_digits else "")
        chosen = "".join(self.choices(pool, k=length))
        return chosen.lower() if lower_case else chosen

    MotoRandom.get_random_string = string  # type: ignore[method-assign]


@contextmanager
def unhashed_signatures() -> Iterator[None]:
    """Sign without hashes: moto reads a signature's region and service, and never compares it."""
    canonical, signature = SigV4Auth.canonical_request, SigV4Auth.signature
    SigV4Auth.canonical_request = lambda *_: ""
    SigV4Auth.signature = lambda *_: "0" * 64
    try:
        yield
    finally:
        SigV4Auth.canonical_request, SigV4Auth.signature = canonical, signature
