"""One small class per AWS service, each given its boto3 client."""
