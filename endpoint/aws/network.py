"""EC2: the zones for a private network, and what still uses one."""

from __future__ import annotations

from typing import Any

from endpoint.core.waiting import Waiting

# A variant's model can name at most 16 subnets; no region has more zones than this.
MOST_ZONES = 6
_FREE_SECONDS = 1800
_USUAL = "availability-zone"


class Network:
    """Zones, network interfaces and tags.

    Args:
        client: the client of ec2.
    """

    def __init__(self, client: Any, waiting: Waiting) -> None:
        self._client = client
        self._waiting = waiting

    def zones(self) -> list[str]:
        """Return the names of the region's availability zones that the account can use."""
        zones = self._client.describe_availability_zones(
            Filters=[{"Name": "state", "Values": ["available"]}]
        )["AvailabilityZones"]
        # Local zones and Wavelength zones have few instance types and cost more.
        usual = [zone for zone in zones if zone.get("ZoneType", _USUAL) == _USUAL]
        return sorted(zone["ZoneName"] for zone in usual)[:MOST_ZONES]

    def wait_until_unused(self, security_group: str) -> None:
        """Wait until no network interface has the security group.

        SageMaker removes an endpoint's interfaces for some minutes after the endpoint is gone, with
        the endpoint's role.

        Raises:
            TookTooLong: after half an hour.
        """
        pages = self._client.get_paginator("describe_network_interfaces")

        def poll() -> str | None:
            found = [
                interface
                for page in pages.paginate(
                    Filters=[{"Name": "group-id", "Values": [security_group]}]
                )
                for interface in page["NetworkInterfaces"]
            ]
            return f"{len(found)} network interfaces are being removed" if found else None

        self._waiting.until_done(poll, at_most=_FREE_SECONDS, every=15)

    def has(self, resource: str) -> bool:
        """Whether a tagged resource of EC2 exists, by its id."""
        filters = [{"Name": "resource-id", "Values": [resource]}]
        return bool(self._client.describe_tags(Filters=filters)["Tags"])
