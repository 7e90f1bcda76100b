"""The console script: `--version` and the list of commands at once, everything else by the whole application.

Both are asked for in shells' prompts, scripts and first minutes, and need none of our libraries: they are told from this file
and the package's metadata alone.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Final

HEAD: Final = """\
Usage: turnout COMMAND

Event-driven router for AI generation jobs. Begin with `turnout dev`, then
`turnout submit 'say hello'`. Each command has --help."""
OPTIONS: Final = {"--help, -h": "Show this list.", "--version": "Show the version."}
COMMANDS: Final[dict[str, str]] = {
    # By name the first sentence of its own help, in the order in which people meet them.
    "demo": "Watch jobs being routed among three simulated backends while one of them dies and comes back.",
    "dev": "Run everything in one process: NATS server, all rooms, and whatever backends are found here.",
    "doctor": "Look what is here and what is missing.",
    "submit": "Send one job or many, show how they go, and end with their answers.",
    "cancel": "Cancel jobs; one that has ended already stays as it is.",
    "get": "Fetch the answer of a job that has succeeded: the text as it is, files under the names they have.",
    "why": "Tell why a job went where it went: needs, candidates, attempts with their errors, cost.",
    "rate": "Rate the result of a job.",
    "watch": "Show what happens to jobs and backends, as it happens.",
    "jobs": "List the latest jobs, newest first: where each is, what it waits for, what it cost.",
    "backends": "Show the backends: what they speak, how they are, what waits before them, what they did so far.",
    "recipes": "Show the recipes: those that come with turnout and those of the backends on the bus, and who runs each now.",
    "decide": "Show where a job would go now and why, as `submit` would send it.",
    "quote": "Tell what a job would cost now, when it would be done, and who would be next.",
    "estimate": "Tell what so many jobs of this kind cost and how long they take, split as given or as is best.",
    "recommend": "Recommend who should do how many of these jobs, so that price and waiting cost least and the budget is kept.",
    "policy": "Check, show, compare, apply or remove policies.",
    "budget": "Show, set, raise or remove budgets while everything runs, or let a held job try again.",
    "preferences": "Show, set or clear what jobs prefer where they do not say so themselves.",
    "alerts": "Show what was told lately about budgets, latency and breakers, and which webhooks know of it.",
    "breaker": "List the circuit breakers, or open or close one by hand.",
    "prices": "Show, set, check or refresh prices.",
    "rebalance": "Forget what was measured: every backend gets an equal share until it is measured again.",
    "verify": "Derive decisions again from their stored events alone, and name the first difference of each.",
    "sim-backend": "Run a simulated backend: it speaks the OpenAI protocol, makes up its words, and fails as told.",
    "run": "Run parts of turnout against a NATS server; start more of them for more throughput.",
    "setup": "Create or update the streams and consumers.",
    "env": 'Print NATS_URL for the shell, so that any NATS client finds the bus: `eval "$(turnout env)"`.',
    "schema": "Print AsyncAPI 3 with the JSON Schemas of all messages, for tools and for clients in any language.",
    "completion": "Print what a shell needs to complete commands and flags.",
}

_LEAST, _MOST = 40, 100


def main() -> None:
    """Run the command line of this process, and end it."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        from importlib.metadata import version

        text = version("turnout")
    elif arguments in ([], ["--help"], ["-h"]) and _installed() == set(COMMANDS):
        text = listed(COMMANDS, _width())
    else:
        from actors.console.app import run

        sys.exit(run(arguments))
    try:
        print(text, flush=True)
    except BrokenPipeError:  # Whoever read it has had enough.
        sys.stderr.close()
    sys.exit(0)


def listed(commands: Mapping[str, str], width: int) -> str:
    """The list of commands, in lines of at most `width` characters."""
    return "\n".join([HEAD, "", "Commands:", *_rows(commands, width), "", "Options:", *_rows(OPTIONS, width)])


def _rows(texts: Mapping[str, str], width: int) -> Sequence[str]:
    import textwrap

    column = max(map(len, texts)) + 4
    return [
        line
        for name, text in texts.items()
        for line in textwrap.wrap(
            text,
            width,
            initial_indent=f"  {name}".ljust(column),
            subsequent_indent=" " * column,
            break_on_hyphens=False,
        )
    ]


def _width() -> int:
    import shutil

    return max(_LEAST, min(shutil.get_terminal_size().columns, _MOST))


def _installed() -> set[str]:
    """The names of all commands there are, other packages' too."""
    from importlib.metadata import entry_points

    return {point.name for point in entry_points(group="turnout.commands")}
