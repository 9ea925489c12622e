"""One small class per AWS service; it receives its boto3 client."""
