"""What every script uses, independent of AWS services; imports nothing of this project."""
