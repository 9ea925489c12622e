"""What every script shares, and what knows no AWS service; imports nothing else of ours."""
