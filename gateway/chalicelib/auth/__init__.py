"""Which client a request comes from, and how many pictures it can have."""
