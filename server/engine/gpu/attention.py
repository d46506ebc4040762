"""Attention over slots on a GPU, in Triton: one query's keys are shared out among programs, a run's queries share them.

A program reads no further than its sequence has come, so a pass costs what is live in the slots: the split over keys is
flash-decoding's (Dao et al., 2023), the softmax that needs one pass Milakov and Gimelshein's (arXiv 1805.02867). All
sums are float32. Knows pointers and sizes; no tensors, no model.
"""

import triton
import triton.language as tl


@triton.jit
def _capped(scores, softcap, CAPPED: tl.constexpr):
    """As c tanh(s / c), where they are: by a series where a sigmoid would lose its digits."""
    if CAPPED:
        x = scores / softcap
        near = x * (1.0 + x * x * (-1 / 3 + x * x * (2 / 15 - 17 / 315 * x * x)))
        scores = softcap * tl.where(tl.abs(x) < 0.2, near, 2.0 * tl.sigmoid(2.0 * x) - 1.0)
    return scores


@triton.jit
def _scores(query, keys, scale, softcap, CAPPED: tl.constexpr):
    """query [M, D], keys [BLOCK, D] -> float32 [M, BLOCK]."""
    return _capped(tl.dot(query, tl.trans(keys), input_precision="ieee") * scale, softcap, CAPPED)


@triton.jit
def _nothing(M: tl.constexpr, DIMS: tl.constexpr):
    """A softmax that has seen no score: the largest, the total of the weights, the weighted sum of values."""
    return tl.full([M], float("-inf"), tl.float32), tl.zeros([M], tl.float32), tl.zeros([M, DIMS], tl.float32)


@triton.jit
def _folded(most, total, sums, scores, values):
    """Another block's scores [M, BLOCK] and values [BLOCK, D] in a softmax that is under way."""
    larger = tl.maximum(most, tl.max(scores, 1))
    least = tl.where(larger == float("-inf"), 0.0, larger)  # nothing seen yet: all weights are nought, not NaN
    before = tl.exp(most - least)
    weights = tl.exp(scores - least[:, None])
    total = total * before + tl.sum(weights, 1)
    sums = sums * before[:, None] + tl.dot(weights.to(values.dtype), values, input_precision="ieee")
    return larger, total, sums


@triton.jit
def write(
    k, v, k_row, k_head, v_row, v_head, keys, values, spans, slots, positions, kv_heads,
    SIZE: tl.constexpr, DIMS: tl.constexpr,
):  # fmt: skip
    """One row's k and v of one head, [D] each, into its slot."""
    row, head = tl.program_id(0), tl.program_id(1)
    slot = tl.load(slots + row)
    dims = tl.arange(0, DIMS)
    mine = (dims < SIZE) & (slot >= 0)
    to = ((slot * kv_heads + head) * tl.load(spans) + tl.load(positions + row)) * SIZE + dims
    tl.store(keys + to, tl.load(k + row * k_row + head * k_head + dims, mask=mine), mask=mine)
    tl.store(values + to, tl.load(v + row * v_row + head * v_head + dims, mask=mine), mask=mine)


@triton.jit
def attend_one(
    q, k, v, q_row, q_head, k_row, k_head, v_row, v_head, keys, values, spans, slots, positions, out, parts, tops,
    kv_heads, window, scale, softcap,
    GROUP: tl.constexpr, SIZE: tl.constexpr, M: tl.constexpr, DIMS: tl.constexpr, BLOCK: tl.constexpr,
    SPLITS: tl.constexpr, CAPPED: tl.constexpr,
):  # fmt: skip
    """The queries of one row that share a key head, over one of `SPLITS` parts of their slot up to its position.

    Its own key and value are not read from the slot but written there.

    Alone it writes out [rows, H, D]; else sums to parts [rows, H, SPLITS, D], largest score and total to tops [..., 2].
    """
    row, head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    slot, at = tl.load(slots + row), tl.load(positions + row)
    first = tl.maximum(at + 1 - window, 0)
    part = tl.cdiv(tl.cdiv(tl.maximum(at - first, 0), SPLITS), BLOCK) * BLOCK
    first += split * part
    last = tl.where(slot >= 0, tl.minimum(at, first + part), 0)
    group, dims, block = tl.arange(0, M), tl.arange(0, DIMS), tl.arange(0, BLOCK)
    heads, inside = head * GROUP + group, dims < SIZE
    mine = (group < GROUP)[:, None] & inside[None, :]
    query = tl.load(q + row * q_row + heads[:, None] * q_head + dims[None, :], mask=mine, other=0.0)
    base = (slot * kv_heads + head) * tl.load(spans)
    key = tl.load(k + row * k_row + head * k_head + dims, mask=inside, other=0.0)
    value = tl.load(v + row * v_row + head * v_head + dims, mask=inside, other=0.0)
    begins = split == 0
    tl.store(keys + (base + at) * SIZE + dims, key, mask=inside & begins & (slot >= 0))
    tl.store(values + (base + at) * SIZE + dims, value, mask=inside & begins & (slot >= 0))
    own = tl.sum(query.to(tl.float32) * key.to(tl.float32)[None, :], 1) * scale
    most, total, sums = _nothing(M, DIMS)
    most = tl.where(begins, _capped(own, softcap, CAPPED), most)
    total = tl.where(begins, total + 1.0, total)
    sums = tl.where(begins, sums + value.to(tl.float32)[None, :], sums)
    for start in range(first, last, BLOCK):
        seen = start + block < last
        where = (base + start + block)[:, None] * SIZE + dims[None, :]
        there = seen[:, None] & inside[None, :]
        scores = _scores(query, tl.load(keys + where, mask=there, other=0.0), scale, softcap, CAPPED)
        scores = tl.where(seen[None, :], scores, float("-inf"))
        most, total, sums = _folded(most, total, sums, scores, tl.load(values + where, mask=there, other=0.0))
    place = row * kv_heads * GROUP + heads
    if SPLITS == 1:
        found = tl.where(slot >= 0, sums / total[:, None], 0.0)
        tl.store(out + place[:, None] * SIZE + dims[None, :], found.to(out.dtype.element_ty), mask=mine)
    else:
        place = place * SPLITS + split
        tl.store(parts + place[:, None] * SIZE + dims[None, :], sums, mask=mine)
        tl.store(tops + place * 2, most, mask=group < GROUP)
        tl.store(tops + place * 2 + 1, total, mask=group < GROUP)


@triton.jit
def join(parts, tops, slots, out, heads, SIZE: tl.constexpr, DIMS: tl.constexpr, SPLITS: tl.constexpr):
    """What `attend_one` left of one row's one head, as out [rows, H, D]."""
    row, head = tl.program_id(0), tl.program_id(1)
    splits, dims = tl.arange(0, SPLITS), tl.arange(0, DIMS)
    mine = dims < SIZE
    place = (row * heads + head) * SPLITS + splits
    most = tl.load(tops + place * 2)
    weights = tl.exp(most - tl.max(most, 0))
    total = tl.sum(weights * tl.load(tops + place * 2 + 1), 0)
    sums = tl.load(parts + place[:, None] * SIZE + dims[None, :], mask=mine[None, :], other=0.0)
    found = tl.sum(weights[:, None] * sums, 0) / total
    found = tl.where(tl.load(slots + row) >= 0, found, 0.0)
    tl.store(out + (row * heads + head) * SIZE + dims, found.to(out.dtype.element_ty), mask=mine)


@triton.jit
def attend_run(
    q, q_row, q_head, keys, values, spans, blocks, out, kv_heads, window, scale, softcap,
    GROUP: tl.constexpr, SIZE: tl.constexpr, M: tl.constexpr, DIMS: tl.constexpr, BLOCK: tl.constexpr,
    CAPPED: tl.constexpr,
):  # fmt: skip
    """Some rows of one run, their queries that share a key head: blocks [n, 4] of first row, rows, slot, past."""
    told, head = blocks + tl.program_id(0) * 4, tl.program_id(1)
    first, count, slot, past = tl.load(told), tl.load(told + 1), tl.load(told + 2), tl.load(told + 3)
    each, dims, block = tl.arange(0, M), tl.arange(0, DIMS), tl.arange(0, BLOCK)
    row, heads = each // GROUP, head * GROUP + each % GROUP
    mine = (row < count)[:, None] & (dims < SIZE)[None, :]
    query = tl.load(q + (first + row)[:, None] * q_row + heads[:, None] * q_head + dims[None, :], mask=mine, other=0.0)
    base = (slot * kv_heads + head) * tl.load(spans)
    most, total, sums = _nothing(M, DIMS)
    at = (past + row)[:, None]
    for start in range(tl.maximum(past + 1 - window, 0) // BLOCK * BLOCK, past + count, BLOCK):  # whatever the run
        key = start + block
        where = (base + key)[:, None] * SIZE + dims[None, :]
        there = (key < past + count)[:, None] & (dims < SIZE)[None, :]
        scores = _scores(query, tl.load(keys + where, mask=there, other=0.0), scale, softcap, CAPPED)
        seen = (key[None, :] <= at) & (key[None, :] > at - window)
        scores = tl.where(seen, scores, float("-inf"))
        most, total, sums = _folded(most, total, sums, scores, tl.load(values + where, mask=there, other=0.0))
    to = ((first + row) * kv_heads * GROUP + heads)[:, None] * SIZE + dims[None, :]
    tl.store(out + to, (sums / total[:, None]).to(out.dtype.element_ty), mask=mine)


@triton.jit(do_not_specialize=["layer"])
def attend_beside(
    q, q_row, q_head, rows, table, out, layer, count, kv_heads, scale,
    GROUP: tl.constexpr, SIZE: tl.constexpr, M: tl.constexpr, DIMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One token's queries that share a key head over the rows of its adapter, behind its gate: out [n, H, D]."""
    one, head = tl.program_id(0), tl.program_id(1)
    at = layer - tl.load(table + 3 * count + one)
    length = tl.load(table + 4 * count + one)
    last = tl.where(at >= 0, length, 0)
    kind = tl.pointer_type(q.dtype.element_ty)
    base = (at * kv_heads + head) * length * SIZE
    keys = tl.load(table + one).to(kind) + base
    values = tl.load(table + count + one).to(kind) + base
    group, dims, block = tl.arange(0, M), tl.arange(0, DIMS), tl.arange(0, BLOCK)
    heads = head * GROUP + group
    mine = (group < GROUP)[:, None] & (dims < SIZE)[None, :]
    query = tl.load(q + tl.load(rows + one) * q_row + heads[:, None] * q_head + dims[None, :], mask=mine, other=0.0)
    most, total, sums = _nothing(M, DIMS)
    for start in range(0, last, BLOCK):
        seen = start + block < last
        where = (start + block)[:, None] * SIZE + dims[None, :]
        there = seen[:, None] & (dims < SIZE)[None, :]
        scores = _scores(query, tl.load(keys + where, mask=there, other=0.0), scale, 1.0, False)
        scores = tl.where(seen[None, :], scores, float("-inf"))
        most, total, sums = _folded(most, total, sums, scores, tl.load(values + where, mask=there, other=0.0))
    gates = tl.load(table + 2 * count + one).to(kind) + at * kv_heads * GROUP + heads
    gate = tl.load(gates, mask=(group < GROUP) & (last > 0), other=0.0).to(tl.float32)
    total = tl.where(last > 0, total, 1.0)
    found = sums / total[:, None] * gate[:, None]
    to = (one * kv_heads * GROUP + heads)[:, None] * SIZE + dims[None, :]
    tl.store(out + to, found.to(out.dtype.element_ty), mask=mine)
