"""The accepted requests, and the thread that generates them."""
