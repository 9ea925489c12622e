"""What makes a script: its options, its context, and what exists in the account."""
