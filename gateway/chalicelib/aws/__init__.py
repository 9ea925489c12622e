"""AWS, seen from the gateway: one small class for each service; botocore's errors end here."""
