"""What a stack's resources have, which moto leaves out."""

from __future__ import annotations

import json
import uuid

from tests.endpoint.emulator.doubles import REGION


def test_a_stacks_bucket_has_the_cors_rules_of_its_template(clients, s3):
    name = f"cors-{uuid.uuid4().hex[:8]}"
    cloudformation = clients.get("cloudformation", REGION)

    def template(*origins):
        rule = {"AllowedMethods": ["POST"], "AllowedOrigins": list(origins), "MaxAge": 60}
        own = {"BucketName": name, "CorsConfiguration": {"CorsRules": [rule]}}
        return json.dumps({"Resources": {"Bucket": {"Type": "AWS::S3::Bucket", "Properties": own}}})

    cloudformation.create_stack(StackName=name, TemplateBody=template("https://a.example"))
    (rule,) = s3.get_bucket_cors(Bucket=name)["CORSRules"]
    assert rule["AllowedMethods"] == ["POST"]
    assert rule["AllowedOrigins"] == ["https://a.example"]
    assert rule["MaxAgeSeconds"] == 60
    cloudformation.update_stack(StackName=name, TemplateBody=template("https://b.example"))
    (rule,) = s3.get_bucket_cors(Bucket=name)["CORSRules"]
    assert rule["AllowedOrigins"] == ["https://b.example"]
