"""One small class per AWS service, which is given its boto3 client."""
