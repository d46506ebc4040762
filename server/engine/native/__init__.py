"""Kernels in C for what stands between the matrix products, with torch's own operators wherever they are not there.

`kernels.c` is compiled when the package is installed (`build`), and found and called by `binding`. Knows pointers and
sizes; no model.
"""
