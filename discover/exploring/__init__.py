"""Patching by hand, as a person asks for it: a behaviour and names of nodes in, results out."""

from __future__ import annotations

from discover.exploring.answer import Answer
from discover.exploring.ask import pairs, patch, path, task_prompts
from discover.exploring.setup import DIRECTIONS, Question

__all__ = ["DIRECTIONS", "Answer", "Question", "pairs", "patch", "path", "task_prompts"]
