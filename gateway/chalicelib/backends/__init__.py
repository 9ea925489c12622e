"""Backends: what answers `/invocations` in the container of an endpoint, and how to speak to it.

`setting.read` makes a `backend.Backend` of what is configured; a module for each of them has its
wire. The scripts and the gateway have the same files. They use the standard library and
`generation.py` only.
"""
