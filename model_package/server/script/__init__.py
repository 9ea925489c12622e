"""`inference.py`: its functions, its engine, and the thread that reads and writes with it."""
