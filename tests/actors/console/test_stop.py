"""Commands that only talk to the bus start without the rooms."""

import subprocess
import sys

CLIENTS = (
    "submit",
    "send",
    "cancel",
    "get",
    "why",
    "watch",
    "lists",
    "backends",
    "budget",
    "preferences",
    "alerts",
    "decide",
)
LOOK = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(f'actors.console.{name}')\nprint(*sys.modules)"


def test_commands_without_rooms_load_none() -> None:
    said = subprocess.run(
        [sys.executable, "-c", LOOK, *CLIENTS], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "actors.console.stop" in said
    assert not {"actors.node", "actors.host", "actors.executor", "httpx"} & set(said)
