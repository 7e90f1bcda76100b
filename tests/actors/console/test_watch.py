from __future__ import annotations

import msgspec
import pytest
from rich.text import Text

from actors.console.watch import lines
from messages import Alert
from tests.messages.samples import EXAMPLES

ALERT = next(one for one in EXAMPLES if isinstance(one, Alert))


@pytest.mark.parametrize(("severity", "style"), [("alert", "red"), ("warning", "yellow")])
def test_an_alert_is_one_line(severity: str, style: str) -> None:
    (line,) = lines(msgspec.structs.replace(ALERT, severity=severity, text="Budget\x1b[2J\nis used up."), now=ALERT.at)
    assert isinstance(line, Text)
    assert "burn_rate" in line.plain
    assert line.plain.endswith("is used up.")
    assert "\x1b" not in line.plain
    assert "\n" not in line.plain
    assert style in {str(span.style) for span in line.spans}
