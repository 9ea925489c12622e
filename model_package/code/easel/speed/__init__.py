"""What makes generation faster or smaller."""
