"""The right of a rule to invoke the gateway's function."""

import pytest
from botocore.exceptions import ClientError

from endpoint.aws.gateway import Gateway

RULE = "arn:aws:events:eu-west-1:123456789012:rule/easel-main-batches"


class Functions:
    """Refuses a statement whose name is taken, as Lambda does, and others for another reason."""

    def __init__(self):
        self.statements = {}

    def add_permission(self, StatementId, **statement):
        if statement["FunctionName"] == "gone":
            raise ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "AddPermission")
        if StatementId in self.statements:
            raise ClientError({"Error": {"Code": "ResourceConflictException"}}, "AddPermission")
        self.statements[StatementId] = statement


def test_a_rule_is_allowed_once_however_often_it_is_deployed():
    functions = Functions()
    gateway = Gateway(functions, None, None)
    for _ in range(2):
        gateway.allow_rule("easel-main", RULE)

    (statement,) = functions.statements.values()
    assert statement["Principal"] == "events.amazonaws.com"
    assert statement["SourceArn"] == RULE
    with pytest.raises(ClientError):
        gateway.allow_rule("gone", RULE)
