"""Tolerances exist for whatever a run can be asked for."""

from __future__ import annotations

import pytest

from discover import tolerance
from discover.spec import DTYPES


@pytest.mark.parametrize("table", ["LOADED", "REBUILT", "FINAL"])
def test_every_dtype_of_a_spec_has_its_tolerance(table):
    assert set(getattr(tolerance, table)) == set(DTYPES)
