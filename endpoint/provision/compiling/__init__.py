"""Compiling models for Inferentia2, as jobs on instances without one."""
