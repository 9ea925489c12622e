"""Compile a model for AWS Inferentia2, and load what was compiled, through optimum-neuron.

In a container this package is next to `easel`, in the same folder of code.
"""
