"""A stack's pipeline of SageMaker."""

from __future__ import annotations

from typing import Any

from moto.sagemaker.models import sagemaker_backends

from endpoint.emulator.moto_.stacks.resource import StackResource


class Pipeline(StackResource):
    """AWS::SageMaker::Pipeline."""

    @classmethod
    def make(cls, name: str, properties: dict[str, Any], account: str, region: str) -> Pipeline:
        """Create the pipeline."""
        name = properties.get("PipelineName", name)
        sagemaker_backends[account][region].create_pipeline(
            pipeline_name=name, tags=properties.get("Tags", []), **_options(properties)
        )
        return cls(name)

    def change(self, properties: dict[str, Any], account: str, region: str) -> None:
        """Give the pipeline the properties of an update."""
        backend = sagemaker_backends[account][region]
        backend.update_pipeline(self.physical_resource_id, **_options(properties))

    @classmethod
    def remove(cls, name: str, account: str, region: str) -> None:
        """Delete the pipeline."""
        sagemaker_backends[account][region].delete_pipeline(name)


def _options(properties: dict[str, Any]) -> dict[str, Any]:
    """Return moto's options for a pipeline of these properties."""
    definition = properties["PipelineDefinition"]
    location = definition.get("PipelineDefinitionS3Location")
    return {
        "pipeline_display_name": properties.get("PipelineDisplayName"),
        "pipeline_definition": definition.get("PipelineDefinitionBody"),
        "pipeline_definition_s3_location": location
        and {"Bucket": location["Bucket"], "ObjectKey": location["Key"]},
        "pipeline_description": properties.get("PipelineDescription"),
        "role_arn": properties["RoleArn"],
        "parallelism_configuration": properties.get("ParallelismConfiguration"),
    }
