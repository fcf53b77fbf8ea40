"""Which way the lines take: in each row that one passes, through which gap between two blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from discover.export.figure.diagram import BLOCK_GAP, LANE, Line
from discover.export.figure.place import Placement

CLEAR = 2.2
"""How far a line keeps from a node that it passes, in points."""
BESIDE = 2.0
"""How far apart lines run side by side, where there is room."""
PITCH = 25.0
"""A row's height while routes are chosen, before the real heights are known."""
NEAREST = 6
"""Only so many gaps of a row, the nearest, are considered for a line."""
CROWDED = 8.0
"""What each line too many in a gap costs, in points of way."""

Interval = tuple[float, float]
Point = tuple[float, float]


@dataclass(slots=True)
class Routes:
    """For each line, which gap it takes in each row that it passes; and what is in each gap."""

    placement: Placement
    free: list[list[Interval]] = field(default_factory=list)
    taken: list[list[int]] = field(default_factory=list)
    through: dict[tuple[int, int], list[int]] = field(default_factory=dict)


def choose_routes(placement: Placement) -> Routes:
    """Choose gaps for all lines, and make room in the rows for those that many lines take."""
    for _ in range(2):
        routes = _choose(placement)
        _widen(routes)
    return _choose(placement)


def _choose(placement: Placement) -> Routes:
    routes = Routes(placement, [_free(placement, row) for row in range(len(placement.rows))])
    lines = placement.diagram.lines
    routes.taken = [[] for _ in lines]
    span = [placement.row_of[e.head] - placement.row_of[e.tail] for e in lines]
    # Short lines have the least choice and go first.
    for number in sorted(range(len(lines)), key=lambda i: (span[i], i)):
        taken = _cheapest(routes, lines[number])
        routes.taken[number] = taken
        low = placement.row_of[lines[number].tail]
        for row, gap in enumerate(taken, low + 1):
            routes.through.setdefault((row, gap), []).append(number)
    return routes


def _free(placement: Placement, row: int) -> list[Interval]:
    """The gaps of a row from left to right, including those outside its first and last block."""
    edges = [(placement.x[b], placement.blocks[b].width / 2 + CLEAR) for b in placement.rows[row]]
    lows = [-CLEAR] + [x + half for x, half in edges]
    highs = [x - half for x, half in edges] + [placement.width + CLEAR]
    return list(zip(lows, highs, strict=True))


def line_ends(placement: Placement, line: Line) -> Point:
    """Where a line starts and ends (two x), before ports are spread.

    Embedding and logits get as wide as it takes, so that lines run upright there.
    """
    tail, head = placement.cell_x(line.tail), placement.cell_x(line.head)
    if line.tail == "embed" and line.head != "logits":
        return head, head
    return (tail, tail) if line.head == "logits" else (tail, head)


def _into(x: float, interval: Interval) -> float:
    return min(max(x, interval[0]), max(interval))


def _cheapest(routes: Routes, line: Line) -> list[int]:
    """The gaps of the shortest way that is not too crowded, by dynamic programming."""
    placement = routes.placement
    low, high = placement.row_of[line.tail], placement.row_of[line.head]
    start, end = line_ends(placement, line)
    # (cost, x, gaps so far) for each gap of the row below
    states: list[tuple[float, float, list[int]]] = [(0.0, start, [])]
    for row in range(low + 1, high):
        straight = start + (end - start) * (row - low) / (high - low)
        anywhere = row == low + 1 and line.tail == "embed"
        new = []
        for gap in _near(routes.free[row], straight):
            x = _into(straight, routes.free[row][gap])
            own = _crowding(routes, row, gap)
            cost, path = min((c + _far(x, at, anywhere), p) for c, at, p in states)
            new.append((cost + own, x, [*path, gap]))
        states = new
    anywhere = line.head == "logits"
    return min((c + _far(end, at, anywhere), p) for c, at, p in states)[1]


def _far(x: float, other: float, anywhere: bool) -> float:
    return PITCH if anywhere else math.hypot(x - other, PITCH)


def _near(free: list[Interval], x: float) -> list[int]:
    """The gaps of a row that are nearest to x."""
    passable = [gap for gap, (low, high) in enumerate(free) if high >= low]
    away = {gap: abs(_into(x, free[gap]) - x) for gap in passable}
    return sorted(passable, key=lambda gap: (away[gap], gap))[:NEAREST] or [0]


def _crowding(routes: Routes, row: int, gap: int) -> float:
    low, high = routes.free[row][gap]
    room = 1 + max(0.0, high - low) / BESIDE
    return CROWDED * max(0.0, len(routes.through.get((row, gap), ())) + 1 - room)


def _widen(routes: Routes) -> None:
    """Give each gap the room that its lines need, as far as the row has any."""
    placement = routes.placement
    for row, members in enumerate(placement.rows):
        if len(members) < 2:
            continue
        extra = []
        for gap in range(1, len(members)):
            count = len(routes.through.get((row, gap), ()))
            extra.append(max(0.0, 2 * CLEAR + BESIDE * (count - 1) + 0.5 - BLOCK_GAP))
        used = sum(placement.blocks[b].width for b in members) + BLOCK_GAP * (len(members) - 1)
        share = min(1.0, max(0.0, placement.width - 2 * LANE - used) / max(sum(extra), 1e-9))
        placement.gaps[row] = [BLOCK_GAP + more * share for more in extra]
        placement.settle(row)
