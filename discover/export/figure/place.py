"""Where the nodes stand in their rows: few crossings, few nodes in a line's way, short lines."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from discover.export.figure.diagram import BLOCK_GAP, LANE, Block, Diagram
from discover.export.figure.spread import spread

CROSSING, IN_THE_WAY = 1.0, 3.0
"""What a crossing and a node in a line's way cost."""
CROWDING, ROOMY = 1.5, 24.0
"""What two nodes that touch cost, and the gap in points from which on it is nothing."""
CROWDING, ROOMY = 1.5, 24.0
"""What two nodes that touch cost, and the gap in points from which on it is nothing."""
RUN = 40.0
"""So many points sideways cost 1 in a line from one row to the next; in longer lines, which stay
steep, less."""

MOST_STRETCH = 1.5

MANY = 1000
"""With more lines than this crossings are not counted: no order of nodes would help the eye."""

STARTS, BUDGET = 5, 15_000_000
"""From how many starts good places are searched for, and how much work each search may do: an
amount, not a time, so that every machine draws the same figure."""


@dataclass(slots=True)
class Placement:
    """The blocks' centres (`x`, points from the left), and each row's blocks from left to right.

    `gaps[row][i]` is the least distance between the row's i-th and next block.
    """

    diagram: Diagram
    width: float
    blocks: list[Block] = field(default_factory=list)
    rows: list[list[int]] = field(default_factory=list)
    x: list[float] = field(default_factory=list)
    row_of: dict[str, int] = field(default_factory=dict)
    block_of: dict[str, int] = field(default_factory=dict)
    offset: dict[str, float] = field(default_factory=dict)
    gaps: list[list[float]] = field(default_factory=list)

    def settle(self, row: int, wanted: dict[int, float] | None = None) -> None:
        """Put a row's blocks as near to where they want to be as fits, in the row's order."""
        members = self.rows[row]
        half = [self.blocks[b].width / 2 for b in members]
        gaps = self.gaps[row]
        apart = [half[i] + half[i + 1] + gaps[i] for i in range(len(members) - 1)]
        hope = [(wanted or {}).get(b, self.x[b]) for b in members]
        lane = LANE if 0 < row < len(self.rows) - 1 else 0.0
        found = spread(hope, apart, lane + half[0], self.width - lane - half[-1])
        for block, x in zip(members, found, strict=True):
            self.x[block] = x

    def cell_x(self, cell: str) -> float:
        """The centre of a cell."""
        return self.x[self.block_of[cell]] + self.offset[cell]

    def set_width(self, bar: str, low: float, high: float) -> None:
        """Give the embedding or the logits their final extent."""
        block = self.block_of[bar]
        (cell,) = self.blocks[block].cells
        self.blocks[block] = Block((dataclasses.replace(cell, width=high - low),))
        self.x[block] = (low + high) / 2


def place(diagram: Diagram, width: float) -> Placement:
    """Find places for all blocks of a diagram, the same ones every time."""
    best, least = None, math.inf
    for start in range(STARTS if len(diagram.lines) <= MANY else 1):
        placement = _start(diagram, width, start)
        ends = _Ends(placement)
        for sweep in range(24):
            _toward_neighbours(placement, ends, upward=(sweep + start) % 2 == 0)
        cost = _improve(placement, ends)
        if best is None or cost < least:
            best, least = placement, cost
    assert best is not None
    _fill(best)
    return best


def _fill(placement: Placement) -> None:
    """Centre the nodes between the margins and pull them apart to use the width."""
    inner = range(1, len(placement.blocks) - 1)
    if not inner:
        return
    halves = {b: placement.blocks[b].width / 2 for b in inner}
    left = min(placement.x[b] - halves[b] for b in inner)
    right = max(placement.x[b] + halves[b] for b in inner)
    middle, centre = (left + right) / 2, placement.width / 2
    away = {b: abs(placement.x[b] - middle) for b in inner}
    fits = [(centre - LANE - halves[b]) / away[b] for b in inner if away[b] > 1]
    factor = max(1.0, min([MOST_STRETCH, *fits]))
    for b in inner:
        placement.x[b] = centre + (placement.x[b] - middle) * factor


def _start(diagram: Diagram, width: float, start: int) -> Placement:
    """Blocks evenly spread, by index at the first start and in other fixed orders at the rest."""
    placement = Placement(diagram, width)
    chance = random.Random(start)
    for number, row in enumerate(diagram.rows):
        members = []
        for block in row.blocks:
            members.append(len(placement.blocks))
            placement.x.append(0.0)
            left = -block.width / 2
            for cell in block.cells:
                placement.block_of[cell.name] = len(placement.blocks)
                placement.row_of[cell.name] = number
                placement.offset[cell.name] = left + cell.width / 2
                left += cell.width
            placement.blocks.append(block)
        placement.rows.append(members)
        if start:
            chance.shuffle(members)
        for i, b in enumerate(members):
            placement.x[b] = width * (i + 1) / (len(members) + 1)
        placement.gaps.append([BLOCK_GAP] * max(0, len(members) - 1))
        placement.settle(number)
    return placement


class _Ends:
    """The lines as arrays, to count what is wrong with a placement fast.

    Lines are taken as straight here, upright at the embedding and the logits: these bars become as
    wide as that takes.
    """

    def __init__(self, placement: Placement) -> None:
        lines = placement.diagram.lines
        where = placement.block_of, placement.offset, placement.row_of
        self.tail, self.tail_offset, self.low = _columns([e.tail for e in lines], *where)
        self.head, self.head_offset, self.high = _columns([e.head for e in lines], *where)
        self.from_bar = self.tail == 0
        self.to_bar = self.head == len(placement.blocks) - 1
        self.per_run = 1.0 / (RUN * np.sqrt(self.high - self.low))
        self._find_pairs()
        self._find_ways(placement)

    def _find_pairs(self) -> None:
        first, second = np.triu_indices(len(self.tail) if len(self.tail) <= MANY else 0, 1)
        low = np.maximum(self.low[first], self.low[second])
        high = np.minimum(self.high[first], self.high[second])
        beside = high > low
        self.first, self.second = first[beside], second[beside]
        self.share = [
            (at[beside] - self.low[line]) / (self.high - self.low)[line]
            for at in (low, high)
            for line in (self.first, self.second)
        ]

    def _find_ways(self, placement: Placement) -> None:
        self.row = np.array([n for n, members in enumerate(placement.rows) for _ in members])
        between = (self.low[:, None] < self.row) & (self.row < self.high[:, None])
        self.line, self.block = np.nonzero(between)
        self.way_share = (self.row[self.block] - self.low[self.line]) / (
            (self.high - self.low)[self.line]
        )
        self.halves = np.array([block.width / 2 for block in placement.blocks])
        self.half = self.halves[self.block] + 2.0

    def points(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where each line starts and ends, given the blocks' centres."""
        tail, head = x[self.tail] + self.tail_offset, x[self.head] + self.head_offset
        upright = np.where(self.from_bar & ~self.to_bar, head, tail)
        return upright, np.where(self.to_bar & ~self.from_bar, upright, head)

    def cost(self, centres: list[float]) -> float:
        """What is wrong with a placement, as one number."""
        tail, head = self.points(np.array(centres))
        run = head - tail
        a, b = self.first, self.second
        before = tail[a] + run[a] * self.share[0] - tail[b] - run[b] * self.share[1]
        after = tail[a] + run[a] * self.share[2] - tail[b] - run[b] * self.share[3]
        crossings = np.count_nonzero(before * after < -1e-6)
        line, x = self.line, np.array(centres)[self.block]
        depth = self.half - np.abs(tail[line] + run[line] * self.way_share - x)
        hits = np.sum(np.clip(depth / self.half, 0, 1) + (depth > 0))
        wrong = crossings * CROSSING + hits * IN_THE_WAY / 2 + self._crowding(np.array(centres))
        return float(wrong + np.sum(np.abs(run) * self.per_run))

    def _crowding(self, x: np.ndarray) -> float:
        """What narrow gaps between neighbours cost: lines must pass there."""
        order = np.lexsort((x, self.row))
        left, right = order[:-1], order[1:]
        gap = x[right] - x[left] - self.halves[left] - self.halves[right]
        tight = (self.row[left] == self.row[right]) * np.clip(1.0 - gap / ROOMY, 0.0, 1.0)
        return float(CROWDING * tight.sum())

    @property
    def work(self) -> int:
        """How much work one call of `cost` is."""
        return len(self.first) + len(self.line) + 2000


def _columns(
    cells: list[str], block_of: dict[str, int], offset: dict[str, float], row_of: dict[str, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.array([block_of[cell] for cell in cells], dtype=int),
        np.array([offset[cell] for cell in cells], dtype=float),
        np.array([row_of[cell] for cell in cells], dtype=int),
    )


def _toward_neighbours(placement: Placement, ends: _Ends, *, upward: bool) -> None:
    """One sweep of the barycentre method over all rows."""
    count = len(placement.blocks)
    order = range(1, len(placement.rows) - 1)
    for row in order if upward else reversed(order):
        tail, head = ends.points(np.array(placement.x))
        weight = 1.0 / np.sqrt(ends.high - ends.low)
        pull, total = np.zeros(count), np.full(count, 1e-9)
        for mine, skip, offset, other in (
            (ends.head, ends.from_bar, ends.head_offset, tail),
            (ends.tail, ends.to_bar, ends.tail_offset, head),
        ):
            use = ~skip
            np.add.at(pull, mine[use], (weight * (other - offset))[use])
            np.add.at(total, mine[use], weight[use])
        # A faint pull to the middle places blocks that hang on embedding and logits alone.
        hope = (pull + 0.02 * placement.width / 2) / (total + 0.02)
        members = sorted(placement.rows[row], key=lambda b: (round(float(hope[b]), 6), b))
        placement.rows[row] = members
        placement.settle(row, {b: float(hope[b]) for b in members})


def _improve(placement: Placement, ends: _Ends) -> float:
    """Move one block at a time to wherever the whole gets better; the cost when nothing does."""
    left = BUDGET // ends.work if 0 < len(ends.tail) <= MANY else 0
    best = ends.cost(placement.x)
    for _ in range(8):
        start = best
        for row in range(1, len(placement.rows) - 1):
            for block in sorted(placement.rows[row]):
                for goal in _goals(placement, block):
                    if left <= 0:
                        return best
                    left -= 1
                    best = _try(placement, ends, row, block, goal, best)
        if best >= start - 1e-9:
            break
    return best


def _goals(placement: Placement, block: int) -> Iterator[float]:
    here, half = placement.x[block], placement.blocks[block].width / 2
    low, high = LANE + half, placement.width - LANE - half
    yield from (here + step for step in (-24.0, -8.0, -3.0, 3.0, 8.0, 24.0))
    steps = 12
    for i in range(steps + 1):
        yield low + (high - low) * i / steps


def _try(
    placement: Placement, ends: _Ends, row: int, block: int, goal: float, best: float
) -> float:
    """Move a block if that is an improvement; the cost afterwards."""
    before = placement.rows[row], {b: placement.x[b] for b in placement.rows[row]}
    wanted = before[1] | {block: goal}
    placement.rows[row] = sorted(before[0], key=lambda b: (wanted[b], b))
    placement.settle(row, wanted)
    cost = ends.cost(placement.x)
    if cost < best - 1e-6:
        return cost
    placement.rows[row] = before[0]
    for b, x in before[1].items():
        placement.x[b] = x
    return best
