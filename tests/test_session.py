"""What searches share: settings that cannot be are said before anything is loaded."""

from __future__ import annotations

import pytest

from discover.errors import SpecError
from discover.session import How, check_how


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("mps", "'mps' cannot be used: it has no float64.*use cpu or cuda"),
        ("mps:0", "it has no float64"),
        ("cuda:99", "'cuda:99' cannot be used"),
        ("toaster", "'toaster' cannot be used"),
        ("meta", "'meta' cannot be used"),
    ],
)
def test_devices_that_cannot_be_used_are_refused(device, says):
    with pytest.raises(SpecError, match=says) as caught:
        check_how("exact", How(device=device), "kl")
    assert "\n" not in str(caught.value)


def test_the_cpu_can_be_used():
    check_how("exact", How(), "kl")
