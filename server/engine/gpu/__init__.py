"""Kernels in Triton for what stands between the matrix products on a GPU, and passes that are recorded once.

torch's own operators do the same wherever Triton is not there: it comes with builds of torch for CUDA.
"""
