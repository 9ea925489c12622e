"""Functions whose code is in their stack's template, run in this process on the emulator's clock.

Lambda runs such code as `index.py`. Its boto3 clients, its environment and its clock are the
emulator's; nothing else is kept apart. That is for this project's own code, the guard's, only.
"""

from __future__ import annotations

import builtins
import io
import time
import zipfile
from collections.abc import Callable
from functools import cache
from types import CodeType, SimpleNamespace
from typing import Any

from moto.core.exceptions import JsonRESTError


class InlineFunction:
    """A function in moto.

    Args:
        account: its account.
        region: its region.
        name: its name.

    Raises:
        LookupError: if there is none, or it is not from a template.
    """

    def __init__(self, account: str, region: str, name: str) -> None:
        # Imported late: it takes a second, and few processes need it.
        from moto.awslambda.models import lambda_backends

        try:
            function = lambda_backends[account][region].get_function(name)
        except JsonRESTError as error:
            raise LookupError(f"there is no function {name}") from error
        if function.handler != "index.handler":
            raise LookupError(f"the code of {name} is not in a template")
        self._code = _compiled(function.code_bytes)
        self._variables: dict[str, str] = dict(function.environment_vars or {})

    def invoke(self, event: Any, client: Callable[[str], Any], seconds: Callable[[], float]) -> Any:
        """Return what the handler returns.

        Args:
            event: the handler's.
            client: returns a boto3 client of a service.
            seconds: the time since 1970.
        """
        replaced = {
            "boto3": SimpleNamespace(client=client),
            "os": SimpleNamespace(environ=self._variables),
            "time": SimpleNamespace(
                **{name: value for name, value in vars(time).items() if not name.startswith("_")}
                | {"time": seconds}
            ),
        }

        def imported(name: str, *arguments: Any) -> Any:
            return replaced.get(name) or __import__(name, *arguments)

        own: dict[str, Any] = {"__builtins__": vars(builtins) | {"__import__": imported}}
        exec(self._code, own)  # noqa: S102 - the project's own
        return own["handler"](event, None)


@cache
def _compiled(package: bytes) -> CodeType:
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        # moto adds CloudFormation's module for custom resources, as Lambda does.
        return compile(archive.read("index.py"), "index.py", "exec")
