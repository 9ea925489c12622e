"""Whether the account's quotas have room for an endpoint's instances.

Every instance of the account counts, whatever its endpoint. An update counts twice for a while: it
starts the new version next to the old one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from endpoint.aws.quotas import increase_command
from endpoint.cli.context import Context
from endpoint.core.problems import AwsError, QuotaTooSmall, translated

REPLACE = (
    "or use --replace, which deletes the endpoint before it creates the new version: it answers"
    " nothing for about ten minutes"
)


@dataclass(frozen=True)
class Room:
    """The instances of one type.

    Attributes:
        quota: how many the account may run; None if Service Quotas does not list the type, which
            the region then does not offer.
        used: how many it runs.
        command: requests the quota that is needed next.
    """

    instance_type: str
    quota: float | None
    used: int
    command: str

    @property
    def has_one(self) -> bool:
        """Whether one more instance fits; true if there is no quota to compare with."""
        return self.quota is None or self.quota - self.used >= 1

    def in_words(self) -> str:
        """Return how many are in use, such as `1 of 1 ml.g5.xlarge in use`."""
        return f"{self.used} of {self.quota:g} {self.instance_type} in use"


def read(context: Context, types: Iterable[str]) -> dict[str, Room] | None:
    """Return the room for each instance type; None if the quotas cannot be read."""
    types = list(types)
    quotas = context.quotas.read(types)
    if quotas is None:
        return None
    try:
        with translated():
            used = context.endpoints.instances()
    except AwsError:
        used = Counter()  # the quota alone is worth a look
    return _rooms(context, types, quotas, used)


def _rooms(
    context: Context,
    types: Iterable[str],
    quotas: dict[str, tuple[float, str]],
    used: Counter[str],
) -> dict[str, Room]:
    rooms = {}
    for name in types:
        quota, code = quotas.get(name, (None, ""))
        # At least 2, because an update starts a second instance.
        wanted = max(2, used[name] + 1)
        command = increase_command(code, wanted, context.account.region) if code else ""
        rooms[name] = Room(name, quota, used[name], command)
    return rooms


def offered(rooms: Iterable[Room]) -> tuple[Room, ...]:
    """Return the rooms of the types that the region offers; all if it lists none of them."""
    rooms = tuple(rooms)
    return tuple(room for room in rooms if room.quota is not None) or rooms


def affordable_types(context: Context, types: tuple[str, ...]) -> tuple[str, ...]:
    """Return the instance types that the region offers and the account's quotas allow.

    What is in use makes no difference, so that an endpoint's types stay the same.

    Raises:
        QuotaTooSmall: if they allow none.
    """
    quotas = context.quotas.read(types)
    if quotas is None:
        context.console.say(
            "Quotas are not checked: they could not be read (servicequotas:ListServiceQuotas)."
        )
        return types
    rooms = _rooms(context, types, quotas, Counter())
    listed = offered(rooms.values())
    allowed = tuple(r.instance_type for r in listed if r.quota is None or r.quota >= 1)
    if not allowed:
        names = ", ".join(room.instance_type for room in listed)
        raise QuotaTooSmall(
            f"This account can run no instance of {names} for endpoints (the quota is 0).",
            _requests(listed),
        )
    missing = [name for name, room in rooms.items() if room not in listed]
    if missing:
        region = context.account.region
        context.console.say(f"Left out, because {region} does not list them: {', '.join(missing)}.")
    return allowed


def require_room(context: Context, wanted: dict[str, tuple[str, ...]]) -> None:
    """Check that the endpoints fit into the quotas together, with all others of the account.

    Args:
        context: the account.
        wanted: the types of each endpoint, in the order to try them.

    Raises:
        QuotaTooSmall: if one that does not exist yet would find no instance.
    """
    new = {name: types for name, types in wanted.items() if not _exists(context, name)}
    rooms = read(context, {name for types in new.values() for name in types}) if new else None
    if rooms is None:
        return
    taken: Counter[str] = Counter()
    for endpoint, types in new.items():
        listed = offered(rooms[name] for name in types)
        free = [
            room.instance_type
            for room in listed
            if room.quota is None or room.quota - room.used - taken[room.instance_type] >= 1
        ]
        if not free:
            used = [Room(**{**vars(r), "used": r.used + taken[r.instance_type]}) for r in listed]
            found = ", ".join(room.in_words() for room in used)
            raise QuotaTooSmall(
                f"There is no instance left for {endpoint}: {found}"
                + (", with the other models of this command." if taken else "."),
                f"`python -m endpoint status` shows what runs. {_requests(listed)}",
            )
        taken[free[0]] += 1


def require_second(context: Context, endpoint: str, types: Collection[str]) -> None:
    """Check that an update finds an instance next to the present one.

    Raises:
        QuotaTooSmall: if SageMaker would refuse it.
    """
    rooms = read(context, types)
    if not rooms or any(room.has_one for room in offered(rooms.values())):
        return
    found = ", ".join(room.in_words() for room in offered(rooms.values()))
    raise QuotaTooSmall(
        f"An update of {endpoint} would be refused: {found}, and it starts the new version next to"
        " the old one.",
        f"{_requests(offered(rooms.values()))}\n{REPLACE}.",
    )


def _exists(context: Context, endpoint: str) -> bool:
    description = context.endpoints.find(endpoint)
    return description is not None and description["EndpointStatus"] not in {"Failed", "Deleting"}


def _requests(rooms: Iterable[Room]) -> str:
    commands = "\n  ".join(room.command for room in rooms if room.command)
    return (
        f"Request an increase, which takes from minutes to days:\n  {commands}"
        "\nor choose a type within your quotas with --instance-type."
    )
