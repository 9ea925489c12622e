"""Two templates with their parameters, compared resource by resource."""

import pytest

from endpoint.aws.change_sets import Change
from endpoint.aws.templates import changes
from endpoint.provision import infrastructure

TEMPLATE = """
Parameters:
  Days: {Type: Number, Default: 7}
  Mail: {Type: String, Default: ""}
  Name: {Type: String}
Conditions:
  WithMail: !Not [!Equals [!Ref Mail, ""]]
  WithNothing: !And [{Condition: WithMail}, !Or [!Equals [!Ref Days, "0"], !Condition WithMail]]
Resources:
  Bucket:
    Type: AWS::S3::Bucket
    DeletionPolicy: Retain
    Properties:
      BucketName: !Sub "easel-${Name}-${AWS::AccountId}-${Topic.TopicName}"
      Lifecycle: {Rules: [{Days: !Ref Days}]}
      Alarm: !If [WithMail, !Ref Topic, !Ref AWS::NoValue]
      Zone: !Select [0, !GetAZs ""]
  Topic:
    Type: AWS::SNS::Topic
    Condition: WithMail
  Nothing:
    Type: AWS::SNS::Topic
    Condition: WithNothing
"""
OLD = {"Name": "main"}


@pytest.mark.parametrize(
    ("template", "new", "expected"),
    [
        (TEMPLATE, OLD, []),
        (TEMPLATE, {**OLD, "Days": "7"}, []),  # the default
        (TEMPLATE, {**OLD, "Days": "8"}, [("Modify", "Bucket", ("Lifecycle",))]),
        (TEMPLATE, {"Name": "other"}, [("Modify", "Bucket", ("BucketName",))]),
        (
            TEMPLATE,
            {**OLD, "Mail": "me"},
            [
                ("Modify", "Bucket", ("Alarm",)),
                ("Add", "Topic", ()),
                ("Add", "Nothing", ()),
            ],
        ),
        (TEMPLATE.replace("Retain", "Delete"), OLD, [("Modify", "Bucket", ("DeletionPolicy",))]),
        (TEMPLATE.replace("Zone:", "Place:"), OLD, [("Modify", "Bucket", ("Place", "Zone"))]),
        (TEMPLATE.replace("[0,", "[1,"), OLD, [("Modify", "Bucket", ("Zone",))]),
        (TEMPLATE.replace("Bucket:\n", "Store:\n"), OLD,
         [("Add", "Store", ()), ("Remove", "Bucket", ())]),
        (TEMPLATE + "# a comment\n", OLD, []),
    ],
)  # fmt: skip
def test_what_differs_is_found_by_property(template, new, expected):
    found = changes(TEMPLATE, OLD, template, new)
    assert [(each.action, each.resource, each.properties) for each in found] == expected


def test_without_a_stack_everything_is_added():
    assert changes("", {}, TEMPLATE, OLD) == [Change("Add", "Bucket", "AWS::S3::Bucket", "", ())]


def test_the_deployments_own_template_can_be_read():
    text = infrastructure.template("us-east-1")
    parameters = {"DeploymentName": "main", "ImageRepositoryArns": "arn"}
    kinds = {each.kind for each in changes("", {}, text, parameters)}
    assert "AWS::S3::Bucket" in kinds
    assert "AWS::EC2::VPC" not in kinds
    private = changes(text, parameters, text, {**parameters, "PrivateNetwork": "yes"})
    assert "AWS::EC2::VPC" in {each.kind for each in private}
