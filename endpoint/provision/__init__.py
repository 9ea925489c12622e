"""What SageMaker and Lambda receive: definitions, images, files, and the gateway project."""
