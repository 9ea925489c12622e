"""What makes a start faster, quieter and measured."""
