"""Endpoints through boto3, on a virtual clock."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from botocore.exceptions import ClientError

from endpoint.emulator.moto_ import service_quotas
from endpoint.emulator.moto_.sagemaker import transitions
from endpoint.emulator.sagemaker.lifecycle import Lifecycle, Transitions
from endpoint.emulator.sagemaker.provisioning import Capacity
from tests.endpoint.emulator.doubles import BUCKET, REGION

ROLE = "arn:aws:iam::123456789012:role/easel"


# Types that no other test uses in the account that they share.
TYPE, OTHER_TYPE = "ml.g7.xlarge", "ml.g7e.2xlarge"


class Account:
    """An endpoint's name, with what creating it needs, and a clock that only a test moves."""

    def __init__(self, clients):
        self.sagemaker = clients.get("sagemaker", REGION)
        self.scaling = clients.get("application-autoscaling", REGION)
        self.name = f"states-{uuid.uuid4().hex[:12]}"
        self.seconds = 0.0
        self.transitions = Transitions(lambda: self.seconds, 240, 120, 60)
        self.sagemaker.create_model(
            ModelName=self.name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "image"}
        )

    def config(self, name, **changed):
        variant = {"VariantName": "AllTraffic", "ModelName": self.name, "InitialInstanceCount": 1}
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=f"{self.name}-{name}",
            ProductionVariants=[variant | (changed or {"InstanceType": TYPE})],
        )

    def create(self, suffix="", config="first"):
        self.sagemaker.create_endpoint(
            EndpointName=self.name + suffix, EndpointConfigName=f"{self.name}-{config}"
        )

    def update(self, config):
        self.sagemaker.update_endpoint(
            EndpointName=self.name, EndpointConfigName=f"{self.name}-{config}"
        )

    def delete(self):
        self.sagemaker.delete_endpoint(EndpointName=self.name)

    def clean_up(self):
        """Leave no instance that counts against the quotas of the next test."""
        self.seconds += 1_000
        for endpoint in self.sagemaker.list_endpoints(NameContains=self.name)["Endpoints"]:
            self.sagemaker.delete_endpoint(EndpointName=endpoint["EndpointName"])
        self.seconds += 1_000

    def describe(self):
        description: dict[str, Any] = self.sagemaker.describe_endpoint(EndpointName=self.name)
        return description

    @property
    def configs(self):
        """The configuration in service, and the one that an update is starting."""
        described = self.describe()
        second = described.get("PendingDeploymentSummary", {}).get("EndpointConfigName")
        first = described["EndpointConfigName"].removeprefix(f"{self.name}-")
        return first, second and second.removeprefix(f"{self.name}-")

    @property
    def status(self):
        return str(self.describe()["EndpointStatus"])


@pytest.fixture
def account(clients):
    account = Account(clients)
    account.config("first")
    account.config("second")
    with transitions(account.transitions):
        yield account
    account.clean_up()


def test_an_endpoint_goes_through_its_states(account):
    account.create()
    assert account.status == "Creating"
    account.seconds += 240
    assert account.status == "InService"

    account.delete()
    assert account.status == "Deleting"
    with pytest.raises(ClientError, match="Cannot create already existing endpoint"):
        account.create()
    account.seconds += 60
    listed = account.sagemaker.list_endpoints(NameContains=account.name)
    assert listed["Endpoints"] == []
    account.create()


def test_an_endpoint_that_is_being_created_is_not_there_yet(account, monkeypatch):
    begin = Lifecycle.create

    def look_and_begin(self):
        for look in (lambda: account.status, account.delete):
            with pytest.raises(ClientError, match="Could not find endpoint"):
                look()
        begin(self)

    monkeypatch.setattr(Lifecycle, "create", look_and_begin)
    account.create()
    assert account.status == "Creating"


def test_a_failed_endpoint_has_a_reason_and_can_only_be_deleted(account):
    account.transitions.fails_with = "no capacity"
    account.create()
    account.seconds += 240

    assert account.status == "Failed"
    assert account.describe()["FailureReason"] == "no capacity"
    with pytest.raises(ClientError, match="Cannot update failed endpoint"):
        account.update("second")
    account.delete()


def test_an_update_shows_its_second_fleet_until_it_is_over(account):
    account.create()
    account.seconds += 240
    account.update("second")

    assert (account.status, account.configs) == ("Updating", ("first", "second"))
    account.seconds += 120
    assert (account.status, account.configs) == ("InService", ("second", None))


def test_an_update_can_be_rolled_back(account):
    account.create()
    account.seconds += 240
    account.transitions.update_rolls_back = True
    account.update("second")
    account.seconds += 120
    assert account.status == "RollingBack"
    account.seconds += 120

    assert (account.status, account.configs) == ("InService", ("first", None))


def test_nothing_else_begins_while_something_is_in_progress(account):
    account.create()
    with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
        account.update("second")
    with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
        account.delete()


def test_the_instance_type_of_a_scaled_endpoint_is_not_updated(account):
    account.config("third", InstanceType=OTHER_TYPE)
    account.create()
    account.seconds += 240
    account.scaling.register_scalable_target(
        ServiceNamespace="sagemaker",
        ResourceId=f"endpoint/{account.name}/variant/AllTraffic",
        ScalableDimension="sagemaker:variant:DesiredInstanceCount",
        MinCapacity=0,
        MaxCapacity=1,
    )

    with pytest.raises(ClientError, match="must be deregistered"):
        account.update("third")
    account.update("second")


def test_a_quota_of_one_allows_no_update(account, monkeypatch):
    monkeypatch.setitem(service_quotas.QUOTAS, TYPE, 1.0)
    account.create()
    account.seconds += 240

    with pytest.raises(ClientError, match="current utilization of 1 Instances") as caught:
        account.update("second")
    assert caught.value.response["Error"]["Code"] == "ResourceLimitExceeded"
    with pytest.raises(ClientError, match="ResourceLimitExceeded"):
        account.create("-another")


def test_pools_use_the_first_type_within_its_quota(account, monkeypatch):
    monkeypatch.setitem(service_quotas.QUOTAS, TYPE, 0.0)
    monkeypatch.setitem(service_quotas.QUOTAS, OTHER_TYPE, 1.0)
    pools = [
        {"InstanceType": TYPE, "Priority": 1},
        {"InstanceType": OTHER_TYPE, "Priority": 2},
    ]
    account.config("pools", InstancePools=pools)
    account.create(config="pools")

    account.config("single", InstanceType=OTHER_TYPE)
    with pytest.raises(ClientError, match=f"{OTHER_TYPE} for endpoint usage"):
        account.create("-another", "single")


POOLS = [{"InstanceType": TYPE, "Priority": 1}, {"InstanceType": OTHER_TYPE, "Priority": 2}]


def counts(account):
    """Return how many instances of each type the endpoint has."""
    (variant,) = account.describe()["ProductionVariants"]
    return [pool["CurrentInstanceCount"] for pool in variant["InstancePools"]]


def test_a_pool_without_capacity_takes_its_time_before_the_next_is_tried(account):
    account.transitions.capacity = Capacity({TYPE}, seconds_each=200)
    account.config("pools", InstancePools=POOLS, VariantInstanceProvisionTimeoutInSeconds=600)
    account.create(config="pools")

    account.seconds += 240
    assert (account.status, counts(account)) == ("Creating", [0, 0])
    account.seconds += 200
    assert (account.status, counts(account)) == ("InService", [0, 1])


@pytest.mark.parametrize("missing", [{TYPE}, {TYPE, OTHER_TYPE}])
def test_the_provisioning_timeout_is_for_all_pools_together(account, missing):
    account.transitions.capacity = Capacity(missing, seconds_each=600)
    account.config("pools", InstancePools=POOLS, VariantInstanceProvisionTimeoutInSeconds=600)
    account.create(config="pools")
    account.seconds += 840

    assert account.status == "Failed"
    assert "InsufficientInstanceCapacity" in account.describe()["FailureReason"]


def test_an_update_without_capacity_is_rolled_back(account):
    account.config("pools", InstancePools=POOLS)
    account.create()
    account.seconds += 240
    account.transitions.capacity = Capacity({TYPE, OTHER_TYPE}, seconds_each=100)
    account.update("pools")
    pending = account.describe()["PendingDeploymentSummary"]["ProductionVariants"]

    assert [pool["CurrentInstanceCount"] for pool in pending[0]["InstancePools"]] == [0, 0]
    account.seconds += 320
    assert account.status == "RollingBack"
    account.seconds += 120
    assert (account.status, account.configs) == ("InService", ("first", None))


def test_a_process_elsewhere_sets_the_states_and_the_capacity(switches, clients):
    outside = Account(clients)
    outside.config("first")
    switches.set_transitions(create_seconds=60, capacity={"missing": [TYPE], "seconds_each": 100})
    outside.create()
    switches.set_transitions(create_seconds=0, capacity={})
    assert outside.status == "Creating"
    switches.set_clock(skip=160)
    assert outside.status == "Failed"
    with pytest.raises(ValueError, match="weather"):
        switches.set_transitions(weather="fine")
    outside.clean_up()


def variant(instance_type, model="some"):
    return [
        {
            "VariantName": "AllTraffic",
            "ModelName": model,
            "InstanceType": instance_type,
            "InitialInstanceCount": 1,
        }
    ]


@pytest.mark.parametrize(
    "kind", ["ml.g4dn.xlarge", "ml.g5.xlarge", "ml.g6e.xlarge", "ml.inf2.xlarge"]
)
def test_current_instance_types_are_accepted(sagemaker, kind):
    name = kind.replace(".", "-")
    sagemaker.create_model(
        ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "image"}
    )
    sagemaker.create_endpoint_config(
        EndpointConfigName=name, ProductionVariants=variant(kind, name)
    )
    described = sagemaker.describe_endpoint_config(EndpointConfigName=name)
    assert described["ProductionVariants"][0]["InstanceType"] == kind


def test_an_invalid_instance_type_is_refused(sagemaker):
    with pytest.raises(ClientError, match="not an instance type"):
        sagemaker.create_endpoint_config(
            EndpointConfigName="wrong", ProductionVariants=variant("g5.xlarge")
        )


def test_an_endpoint_cannot_be_created_twice(sagemaker, endpoint):
    with pytest.raises(ClientError, match="Cannot create already existing endpoint"):
        sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=endpoint)


def test_an_asynchronous_endpoint_is_described_as_one(sagemaker, endpoint, async_endpoint):
    described = sagemaker.describe_endpoint(EndpointName=async_endpoint)
    output = described["AsyncInferenceConfig"]["OutputConfig"]
    assert output["S3FailurePath"] == f"s3://{BUCKET}/failed"
    assert "AsyncInferenceConfig" not in sagemaker.describe_endpoint(EndpointName=endpoint)
