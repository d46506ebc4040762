"""The native kernels by themselves."""
