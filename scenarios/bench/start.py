"""How long the console takes to say its version and its list of commands, beside a Python that does nothing."""

from __future__ import annotations

import subprocess
import sys
from time import perf_counter

from scenarios.bench.figures import percentile

ROUNDS = 15
_SCRIPT = "import sys; sys.argv[0] = 'turnout'; from actors.console.entry import main; main()"
WAYS: dict[str, tuple[str, ...]] = {
    "pass": ("-c", "pass"),
    "version": ("-c", _SCRIPT, "--version"),
    "help": ("-c", _SCRIPT, "--help"),
}


def measure_starts(*, rounds: int = ROUNDS) -> dict[str, float]:
    """Milliseconds of whole processes, by turns, and how they stand to `python -c pass`."""
    spent: dict[str, list[float]] = {name: [] for name in WAYS}
    for turn in range(-1, rounds):
        for name, arguments in WAYS.items():
            began = perf_counter()
            subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
            if turn >= 0:  # The first one fills the caches.
                spent[name].append((perf_counter() - began) * 1e3)
    middle = {name: percentile(values, 0.5) for name, values in spent.items()}
    return {
        "floor.python_pass_ms": middle["pass"],
        "ratio.version_to_pass": middle["version"] / middle["pass"],
        "ratio.help_to_pass": middle["help"] / middle["pass"],
    }
