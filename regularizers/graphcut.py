"""The exact minimum of a multi-label grid energy with quadratic smoothness, by a minimum cut.

For labels x_p in {0, ..., n-1} on a grid whose neighbours pq are joined vertically and horizontally,

    E(x) = sum_p U_p(x_p) + sum_pq c_pq (x_p - x_q)^2,   c_pq >= 0, all costs integers.

Label x_p is written with n-1 bits b_p1 >= b_p2 >= ..., x_p = sum_l b_pl. With b b' = (b + b' - |b - b'|) / 2 the square
falls apart into absolute differences and single bits, so that E is, up to a constant, the capacity of a cut:

    E = sum_pl t_pl b_pl + sum_pq sum_lm c_pq |b_pl - b_qm|,
    t_pl = U_p(l) - U_p(l-1) + sum_q c_pq (2l - n)

(l, m over all bits). This is Ishikawa's construction (PAMI 2003) for the square; it holds for every number of labels.

Most labels need no cut. With the neighbours at lower bounds of every minimum, the best answer of a place is again a
lower bound, because c >= 0 makes the best answers rise with the neighbours; likewise from above. Where both bounds
meet, the label is known; only bits between the bounds enter the graph, and 2l - n becomes 2l - 1 - low_q - high_q.
"""

import contextlib
import pickle
import signal
import sys

import numpy as np

LARGEST = 2**20  # the largest cost of every grid as an integer: sums over a place's terms stay far below 2^31
SMALLEST = 2.0**-100  # the least of what scales a grid's costs: its inverse is finite in float32
FORBIDDEN = 2**30  # more than any cut of one place costs
ROUNDS = 8  # of tightening the bounds; more fix few further labels


def solve(costs):
    """The labels with the least energy, int8 [B, h, w], for float costs [B, n + 2, h, w] with n <= 128.

    The channels are the n unary costs, then the costs of a squared label step of 0 to 1, down and right.
    """
    return minimum(*integer_costs(costs[:, :-2], costs[:, -2], costs[:, -1])).astype(np.int8)


def integer_costs(unary, down, right):
    """Non-negative integer costs in proportion to the given ones, each grid by its own scale.

    unary [B, n, h, w], down and right [B, h, w] as in `minimum`; down and right are rounded per squared label step of
    labels 0 to 1, (x/(n-1) - y/(n-1))^2. Rounding errors are below 2^-21 of the grid's largest cost.
    """
    squared_step = (unary.shape[1] - 1) ** 2
    unary = unary - unary.min(axis=1, keepdims=True)
    pairs = np.stack([down, right], axis=1) / squared_step
    largest = np.maximum(unary.max(axis=(1, 2, 3)), pairs.max(axis=(1, 2, 3)))
    scale = (LARGEST / np.maximum(largest, SMALLEST))[:, None, None, None]
    unary, pairs = np.rint(unary * scale).astype(np.int64), np.rint(pairs * scale).astype(np.int64)
    return unary, pairs[:, 0], pairs[:, 1]


def neighbour_sum(x, down, right):
    """sum_q c_pq x_q at every place p, [B, h, w], for x [B, h, w]."""
    total = np.zeros_like(x)
    total[:, :-1] += down[:, :-1] * x[:, 1:]
    total[:, 1:] += down[:, :-1] * x[:, :-1]
    total[:, :, :-1] += right[:, :, :-1] * x[:, :, 1:]
    total[:, :, 1:] += right[:, :, :-1] * x[:, :, :-1]
    return total


def bounds(unary, down, right):
    """Labels low <= high, each [B, h, w], between which every minimum of the energy lies."""
    n = unary.shape[1]
    levels = np.arange(n)[:, None, None]
    alone = unary + neighbour_sum(np.ones_like(down), down, right)[:, None] * levels**2
    low, high = np.zeros_like(down), np.full_like(down, n - 1)
    for _ in range(ROUNDS):
        low_before, high_before = low, high
        low = (alone - 2 * levels * neighbour_sum(low, down, right)[:, None]).argmin(axis=1)
        cost = alone - 2 * levels * neighbour_sum(high, down, right)[:, None]
        high = n - 1 - cost[:, ::-1].argmin(axis=1)  # among equals the highest
        if np.array_equal(low, low_before) and np.array_equal(high, high_before):
            break
    return low, high


def minimum(unary, down, right):
    """The labels that minimise the energy exactly, int64 [B, h, w]; all grids are solved as one graph.

    Args (integers, see `integer_costs`):
        unary: [B, n, h, w], cost of every label at every place.
        down: [B, h, w], c_pq >= 0 between a place and the one below it; the last row is not looked at.
        right: [B, h, w], the same for the place to the right; the last column is not looked at.
    """
    n = unary.shape[1]
    low, high = bounds(unary, down, right)
    levels = np.arange(1, n)[:, None, None]
    free = (low[:, None] < levels) & (levels <= high[:, None])  # [B, n-1, h, w], bit l - 1
    bits = np.count_nonzero(free)
    if not bits:
        return low
    weight = neighbour_sum(np.ones_like(down), down, right)[:, None]
    terminal = np.diff(unary, axis=1) + (2 * levels - 1) * weight - neighbour_sum(low + high, down, right)[:, None]
    name = np.full(free.shape, -1)
    name[free] = np.arange(bits)
    ones = source_side(terminal[free], *links(name, down, right))
    bit = np.zeros(free.shape, dtype=np.int64)
    bit[free] = ones
    return low + bit.sum(axis=1)


def links(name, down, right):
    """Arcs (from, to, capacity) between free bits, name [B, n-1, h, w] holding each bit's node or -1."""
    tails, heads, capacities = [], [], []

    def add(tail, head, capacity):
        keep = (tail >= 0) & (head >= 0)
        tails.append(tail[keep])
        heads.append(head[keep])
        capacities.append(capacity[keep])

    layers = name.shape[1]
    for i in range(layers):
        for j in range(layers):
            add(name[:, i, :-1], name[:, j, 1:], down[:, :-1])
            add(name[:, i, 1:], name[:, j, :-1], down[:, :-1])
            add(name[:, i, :, :-1], name[:, j, :, 1:], right[:, :, :-1])
            add(name[:, i, :, 1:], name[:, j, :, :-1], right[:, :, :-1])
    for i in range(layers - 1):  # b_pl = 0 and b_p,l+1 = 1 is no label; matters only where U_p is not convex
        add(name[:, i + 1], name[:, i], np.full_like(name[:, i], FORBIDDEN))
    return np.concatenate(tails), np.concatenate(heads), np.concatenate(capacities)


def source_side(terminal, tail, head, capacity):
    """The bits, bool [N], of the smallest minimum of sum_i t_i b_i + sum_arcs capacity [b_tail = 1, b_head = 0].

    terminal: t, int64 [N]. The cut parts the source, b = 1, from the sink, b = 0.
    """
    from scipy.sparse import coo_matrix  # not at the top, so that runs of other methods start sooner
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    n = len(terminal)
    source, sink = n, n + 1
    node = np.arange(n)
    rows = np.concatenate([tail, np.full(n, source), node])
    cols = np.concatenate([head, node, np.full(n, sink)])
    caps = np.concatenate([capacity, np.maximum(-terminal, 0), np.maximum(terminal, 0)])
    graph = coo_matrix((caps.astype(np.int32), (rows, cols)), shape=(n + 2, n + 2)).tocsr()
    residual = graph - maximum_flow(graph, source, sink, method="dinic").flow
    residual.eliminate_zeros()
    reached = breadth_first_order(residual, source, return_predecessors=False)
    side = np.zeros(n + 2, dtype=bool)
    side[reached] = True
    return side[:n]


def serve(requests, answers):
    """Solve pickled costs from one stream and write their labels to another, until the first ends."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # for the process that asks, and that ends this one
    with contextlib.suppress(EOFError, BrokenPipeError, pickle.UnpicklingError):
        while True:
            pickle.dump(solve(pickle.load(requests)), answers)
            answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
