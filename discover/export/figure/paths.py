"""How the lines run: upward, taut around the nodes, side by side where they share a gap.

Every line goes from the top of its sender to the bottom of its receiver. It enters and leaves each
gap that it passes at two *gates* (intervals of x at a height).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from discover.export.figure.diagram import Line
from discover.export.figure.place import Placement
from discover.export.figure.route import BESIDE, Interval, Routes, line_ends
from discover.export.figure.spread import spread
from discover.export.figure.style import NODE_HEIGHT

BAR_LEAST, BAR_BEYOND, BAR_EDGE = 40.0, 9.0, 2.0
"""How wide embedding and logits are at least, how far they go beyond their outer lines, and how
near to the margins lines meet them."""
MOST_LEAN = 0.6
"""The most that a line leans where it meets a node, as sideways run per rise."""

LIFT, FLAT = 2.4, 1.5
"""The height in points between flat lines to one cell, and the run per rise from which on a line
is flat."""

Point = tuple[float, float]
Gate = tuple[float, float, float]
"""A height, and the interval of x that is open there."""


@dataclass(frozen=True, slots=True)
class Heights:
    """The rows' middles, from the bottom up, and the height of all, in points."""

    middle: tuple[float, ...]
    total: float


def heights_of(routes: Routes, limit: float) -> Heights:
    """Row heights: more room where more lines run, and sideways; `limit` points if possible."""
    placement = routes.placement
    count = len(placement.rows) - 1
    crossing, run = [0] * count, [0.0] * count
    for line in placement.diagram.lines:
        low, high = placement.row_of[line.tail], placement.row_of[line.head]
        start, end = line_ends(placement, line)
        for row in range(low, high):
            crossing[row] += 1
            run[row] = max(run[row], abs(end - start) / (high - low))
    room = [
        10.0 + 1.3 * math.sqrt(n) + min(14.0, far / 12)
        for n, far in zip(crossing, run, strict=True)
    ]
    spare = limit - NODE_HEIGHT * (count + 1)
    if sum(room) > spare:
        shrink = max(0.0, spare) / sum(room)
        room = [max(9.0, height * shrink) for height in room]
    middle = [NODE_HEIGHT / 2]
    for height in room:
        middle.append(middle[-1] + NODE_HEIGHT + height)
    return Heights(tuple(middle), middle[-1] + NODE_HEIGHT / 2)


def paths_of(routes: Routes, heights: Heights) -> list[list[Point]]:
    """Each line's corner points, from its sender's top to its receiver's bottom."""
    starts, ends = _plain_ends(routes)
    paths = _all_taut(routes, heights, starts, ends)
    for _ in range(2):
        starts, ends = _ports(routes, paths)
        paths = _all_taut(routes, heights, starts, ends)
    _side_by_side(routes, paths)
    _fit_bars(routes.placement, paths)
    return paths


def _fit_bars(placement: Placement, paths: list[list[Point]]) -> None:
    """Make embedding and logits just as wide as the lines need that meet them."""
    lines = placement.diagram.lines
    for bar in ("embed", "logits"):
        xs = [p[0][0] for p, e in zip(paths, lines, strict=True) if e.tail == bar]
        xs += [p[-1][0] for p, e in zip(paths, lines, strict=True) if e.head == bar]
        low, high = min(xs, default=placement.width / 2), max(xs, default=placement.width / 2)
        more = max(BAR_BEYOND, (BAR_LEAST - (high - low)) / 2)
        placement.set_width(bar, max(-2.0, low - more), min(placement.width + 2.0, high + more))


def _plain_ends(routes: Routes) -> tuple[list[Interval], list[Interval]]:
    """Where lines may start and end: in the middle of a port, or anywhere at a bar."""
    placement = routes.placement
    bar = (BAR_EDGE, placement.width - BAR_EDGE)
    starts, ends = [], []
    for line in placement.diagram.lines:
        start, middle = placement.cell_x(line.tail), placement.width / 2
        if line.tail == "embed" and line.head == "logits":
            start = middle
        end = middle if line.head == "logits" else port_zone(placement, line.head, line.port)[0]
        only_tail = line.tail == "embed" and line.head != "logits"
        starts.append(bar if only_tail else (start, start))
        ends.append(bar if line.head == "logits" else (end, end))
    return starts, ends


def _all_taut(
    routes: Routes, heights: Heights, starts: list[Interval], ends: list[Interval]
) -> list[list[Point]]:
    placement, reach = routes.placement, NODE_HEIGHT / 2
    paths = []
    for number, line in enumerate(placement.diagram.lines):
        low, high = placement.row_of[line.tail], placement.row_of[line.head]
        gates = [(heights.middle[low] + reach, *starts[number])]
        for row, gap in enumerate(routes.taken[number], low + 1):
            left, right = sorted(routes.free[row][gap])
            gates.append((heights.middle[row] - reach, left, right))
            gates.append((heights.middle[row] + reach, left, right))
        gates.append((heights.middle[high] - reach, *ends[number]))
        if starts[number][0] == starts[number][1]:
            paths.append(_taut(gates))
        else:  # the end is fixed: the same from above
            turned = _taut([(-y, left, right) for y, left, right in reversed(gates)])
            paths.append([(x, -y) for x, y in reversed(turned)])
    return paths


def _taut(gates: list[Gate]) -> list[Point]:
    """The shortest way from the first gate, a point, through all others: one point at each.

    Where the last gate leaves a choice the way ends as upright as it can.
    """
    path, first = [(gates[0][1], gates[0][0])], 1
    while first < len(gates):
        at = path[-1]
        last, slope = _straight(at, gates, first)
        path += [(at[0] + slope * (y - at[1]), y) for y, _, _ in gates[first : last + 1]]
        first = last + 1
    return path


def _straight(at: Point, gates: list[Gate], first: int) -> tuple[int, float]:
    """How far a straight line can go from a point through the gates, and its slope."""
    low, high, low_gate, high_gate = -math.inf, math.inf, first, first
    for i in range(first, len(gates)):
        y, left, right = gates[i]
        to_left, to_right = (left - at[0]) / (y - at[1]), (right - at[0]) / (y - at[1])
        if to_left > high:
            return high_gate, high
        if to_right < low:
            return low_gate, low
        if to_left >= low:
            low, low_gate = to_left, i
        if to_right <= high:
            high, high_gate = to_right, i
    return len(gates) - 1, min(max(0.0, low), high)


def _ports(routes: Routes, paths: list[list[Point]]) -> tuple[list[Interval], list[Interval]]:
    """Spread the lines over their cells' tops and bottoms, in the order in which they come."""
    both = []
    for at_tail in (True, False):
        groups: dict[tuple[str, str], list[int]] = {}
        for number, line in enumerate(routes.placement.diagram.lines):
            key = (line.tail, "out") if at_tail else (line.head, line.port)
            groups.setdefault(key, []).append(number)
        found = [(0.0, 0.0)] * len(paths)
        for (cell, port), members in groups.items():
            bar = cell in ("embed", "logits")
            own, next_, beyond = (0, 1, -1) if at_tail else (-1, -2, 0)
            toward = {i: paths[i][own if bar else next_][0] for i in members}
            rest = {i: paths[i][beyond][0] for i in members}
            order = sorted(members, key=lambda i: (round(toward[i], 3), round(rest[i], 3), i))
            spots = _spots(routes.placement, cell, port, [toward[i] for i in order])
            for number, x in zip(order, spots, strict=True):
                found[number] = (x, x)
        both.append(found)
    return both[0], both[1]


def _spots(placement: Placement, cell: str, port: str, toward: list[float]) -> list[float]:
    """Where lines that come from `toward` (ascending) meet one side of a cell."""
    if cell in ("embed", "logits"):
        low, high = BAR_EDGE, placement.width - BAR_EDGE
        return spread(toward, [4.0] * (len(toward) - 1), low, high)
    middle, half = port_zone(placement, cell, port)
    wanted = [middle + max(-half, min(half, (x - middle) * 0.1)) for x in toward]
    return spread(wanted, [1.8] * (len(toward) - 1), middle - half, middle + half)


def port_zone(placement: Placement, cell: str, port: str) -> tuple[float, float]:
    """The middle and half width of the part of a cell's side that a port takes.

    q, k and v have a third of a head's bottom each, in this order; k and v half of a shared
    key/value head's.
    """
    block = placement.blocks[placement.block_of[cell]]
    found = next(c for c in block.cells if c.name == cell)
    ports = {"head": "qkv", "kv": "kv"}.get(found.kind, "")
    if found.kind == "head" and placement.diagram.grouped:
        ports = ""
    width, middle = found.width - 4.0, placement.cell_x(cell)
    if port not in ports:
        return middle, width / 2 - 1.0
    part = width / len(ports)
    return middle - width / 2 + part * (ports.index(port) + 0.5), part / 2 - 0.6


def _side_by_side(routes: Routes, paths: list[list[Point]]) -> None:
    """Where several lines bend around one corner, or share a narrow gap, keep them apart."""
    placement = routes.placement
    rows = [placement.row_of[line.tail] for line in placement.diagram.lines]
    for (row, gap), members in sorted(routes.through.items()):
        low, high = sorted(routes.free[row][gap])
        at = {i: 2 * (row - rows[i]) - 1 for i in members}

        def key(i: int, at: dict[int, int] = at) -> tuple[float, float, int]:
            path, k = paths[i], at[i]
            around = path[k - 1][0] + path[k + 2][0]
            return round(path[k][0] + path[k + 1][0], 1), round(around, 3), i

        order = sorted(members, key=key)
        for side in (0, 1):
            wanted = [paths[i][at[i] + side][0] for i in order]
            found = _apart(wanted, low, high)
            for i, x in zip(order, found, strict=True):
                paths[i][at[i] + side] = (x, paths[i][at[i] + side][1])


def _apart(wanted: list[float], low: float, high: float) -> list[float]:
    """Lines in one gate, from left to right: apart at its ends, as they are in the open."""
    count = len(wanted)
    if (high - low) < 1.5 * BESIDE * count:
        return spread(wanted, [BESIDE] * (count - 1), low, high)
    left = sum(x < low + 0.2 for x in wanted)
    right = sum(x > high - 0.2 for x in wanted)
    found = [max(x, low + BESIDE * i) if i < left else x for i, x in enumerate(wanted)]
    for i in range(right):
        found[-1 - i] = high - BESIDE * i
    return found


def lifts_of(lines: Sequence[Line], paths: list[list[Point]]) -> list[float]:
    """How far each line is to be lifted where it runs flat, in points.

    Flat lines side by side lie on each other unless they run at different heights. Lines from one
    cell to another get one each, such that they do not cross: when they go left, the one that ends
    rightmost runs highest.
    """
    lifts = [0.0] * len(lines)
    groups: dict[tuple[str, str], list[int]] = {}
    for number, line in enumerate(lines):
        groups.setdefault((line.tail, line.head), []).append(number)
    for members in groups.values():
        order = sorted(members, key=lambda i: (paths[i][-1][0], i))
        for rank, number in enumerate(order):
            leftward = paths[number][-1][0] < paths[number][0][0]
            lift = LIFT * (rank - (len(order) - 1) / 2)
            lifts[number] = lift if leftward else -lift
    return lifts


def smooth(path: list[Point], arrow: float, lift: float = 0.0) -> list[Point]:
    """A path's Bézier points, ending at the foot of an arrowhead of this length.

    x is a monotone cubic (Fritsch and Carlson) in y through the path's points: it never leaves the
    range between neighbouring points, so it hits no node that the path goes around. Flat pieces
    are `lift` points higher in their middle.
    """
    (from_x, from_y), (tip_x, tip_y) = path[-2:]
    lean = _leaning((tip_x - from_x) / (tip_y - from_y))
    down = arrow / math.hypot(1.0, lean)
    points = [*path[:-1], (tip_x - lean * down, tip_y - down)]
    slopes = _slopes(points, lean)
    out = [points[0]]
    for i, ((x0, y0), (x1, y1)) in enumerate(pairwise(points)):
        third = (y1 - y0) / 3
        flat = min(1.0, max(0.0, abs(x1 - x0) / (y1 - y0) / FLAT - 1.0))
        up = max(-third, min(third, lift * flat))
        out.append((x0 + slopes[i] * third, y0 + third + up))
        out.append((x1 - slopes[i + 1] * third, y1 - third + up))
        out.append((x1, y1))
    return out


def _leaning(rise: float) -> float:
    """How far from upright a line meets a node: as it comes, but never flat."""
    return max(-MOST_LEAN, min(MOST_LEAN, rise))


def _slopes(points: list[Point], last: float) -> list[float]:
    rises = [(b[0] - a[0]) / (b[1] - a[1]) for a, b in pairwise(points)]
    slopes = [_leaning(rises[0])]
    for before, after in pairwise(rises):
        same = before * after > 0
        slopes.append(2 * before * after / (before + after) if same else 0.0)
    return [*slopes, last]
