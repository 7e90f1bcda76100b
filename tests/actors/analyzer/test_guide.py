"""The guide about jobs names every field there is."""

from __future__ import annotations

import re
from pathlib import Path

from actors.analyzer.preferences import FIELDS
from messages import JobSubmit

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "jobs.md"


def test_every_field_stands_in_the_guide() -> None:
    named = set(re.findall(r"`(\w+)`", GUIDE.read_text("utf-8")))
    assert set(JobSubmit.__struct_fields__) <= named
    assert set(FIELDS) <= named
