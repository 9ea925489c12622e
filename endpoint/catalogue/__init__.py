"""Models, prices and instance types: data files and their readers."""
