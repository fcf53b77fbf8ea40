"""Labelled results of patching experiments: numbers, tables, figures, agreement."""

from __future__ import annotations

from discover.labelled.agreement import Agreement, Offender, agreement
from discover.labelled.array import LabelledArray, Ranked
from discover.labelled.drawing import Drawing
from discover.labelled.figure import Heatmap, heatmap
from discover.labelled.plots import curve, histogram, scatter
from discover.labelled.results import LabelledList, Results
from discover.labelled.terminal import print_terminal, terminal

__all__ = [
    "Agreement",
    "Drawing",
    "Heatmap",
    "LabelledArray",
    "LabelledList",
    "Offender",
    "Ranked",
    "Results",
    "agreement",
    "curve",
    "heatmap",
    "histogram",
    "print_terminal",
    "scatter",
    "terminal",
]
