from __future__ import annotations

from endpoint.emulator.moto_ import service_quotas
from tests.endpoint.emulator.doubles import REGION


def test_quotas_can_be_read_and_set(clients, monkeypatch):
    monkeypatch.setitem(service_quotas.QUOTAS, "ml.g5.xlarge", 0.0)
    quotas = clients.get("service-quotas", REGION).list_service_quotas(ServiceCode="sagemaker")
    values = {quota["QuotaName"]: quota["Value"] for quota in quotas["Quotas"]}
    assert values["ml.g5.xlarge for endpoint usage"] == 0
    assert values["ml.g6.xlarge for endpoint usage"] == 2
