"""What SageMaker and Lambda are given: definitions, images, files, and the gateway project."""
