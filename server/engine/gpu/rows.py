"""Norms, rotary positions and gates on a GPU, in Triton: a program for a row or a head, float32 within.

Knows pointers and sizes; no tensors, no model.
"""

import triton
import triton.language as tl


@triton.jit
def norm(x, weight, out, eps, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """One row of RMS norm: x, out [R, SIZE], weight [SIZE]."""
    at = tl.arange(0, BLOCK)
    mine = at < SIZE
    start = tl.program_id(0).to(tl.int64) * SIZE
    row = tl.load(x + start + at, mask=mine, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(row * row, 0) / SIZE + eps)
    found = row * scale * tl.load(weight + at, mask=mine, other=0.0).to(tl.float32)
    tl.store(out + start + at, found.to(out.dtype.element_ty), mask=mine)


@triton.jit
def gate(x, out, size, BLOCK: tl.constexpr):
    """A part of one row of silu(gate) * up: x [R, 2 size], out [R, size]."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mine = at < size
    first = tl.load(x + row * 2 * size + at, mask=mine, other=0.0).to(tl.float32)
    second = tl.load(x + (row * 2 + 1) * size + at, mask=mine, other=0.0).to(tl.float32)
    tl.store(out + row * size + at, (first * tl.sigmoid(first) * second).to(out.dtype.element_ty), mask=mine)


@triton.jit
def rotate(
    x, cos, sin, q_weight, k_weight, eps, heads, width,
    HALF: tl.constexpr, BLOCK: tl.constexpr, NORMED: tl.constexpr,
):  # fmt: skip
    """One head of a row's queries and keys, in place: x [N, width], cos and sin [N, 2 HALF].

    A program's two halves are read and written where they are, so none reads what another has written.
    """
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    at = tl.arange(0, BLOCK)
    mine = at < HALF
    start = x + row * width + head * 2 * HALF
    first = tl.load(start + at, mask=mine, other=0.0).to(tl.float32)
    second = tl.load(start + HALF + at, mask=mine, other=0.0).to(tl.float32)
    if NORMED:
        scale = tl.rsqrt((tl.sum(first * first, 0) + tl.sum(second * second, 0)) / (2 * HALF) + eps)
        weight = q_weight if head < heads else k_weight
        first *= scale * tl.load(weight + at, mask=mine, other=0.0).to(tl.float32)
        second *= scale * tl.load(weight + HALF + at, mask=mine, other=0.0).to(tl.float32)
    turn = row * 2 * HALF + at
    cos_first, cos_second = tl.load(cos + turn, mask=mine, other=0.0), tl.load(cos + turn + HALF, mask=mine, other=0.0)
    sin_first, sin_second = tl.load(sin + turn, mask=mine, other=0.0), tl.load(sin + turn + HALF, mask=mine, other=0.0)
    tl.store(start + at, (first * cos_first - second * sin_first).to(x.dtype.element_ty), mask=mine)
    tl.store(start + HALF + at, (second * cos_second + first * sin_second).to(x.dtype.element_ty), mask=mine)


@triton.jit
def log_sum(x, best, out, size, BLOCK: tl.constexpr):
    """Of one row of x [R, size], whose largest is best [R]: the log of the sum of e^(x - best), out [R].

    By one program whatever R, so that a row's bits do not depend on how many there are.
    """
    row = tl.program_id(0).to(tl.int64)
    most = tl.load(best + row)
    at = tl.arange(0, BLOCK)
    sums = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, size, BLOCK):
        mine = start + at < size
        one = tl.load(x + row * size + start + at, mask=mine, other=0.0).to(tl.float32)
        sums += tl.where(mine, tl.exp(one - most), 0.0)
    tl.store(out + row, tl.log(tl.sum(sums, 0)))
