"""`turnout sim-backend`: a simulated backend, to try turnout without a GPU or a key."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from actors.console.app import play
from actors.console.output import TEXT, Output
from actors.console.screen import OK, Complaint, Wrong, err, out
from actors.console.stop import Stop

MOST_PORT = 65_535


def sim_backend(
    *,
    name: Annotated[str, Parameter(help="Shows in every answer.")] = "sim",
    port: Annotated[
        int, Parameter(help="Port on this machine; 0: any free one. On 8000 `turnout dev` finds it.")
    ] = 8300,
    model: Annotated[tuple[str, ...], Parameter(help="Model it serves; may be repeated.")] = ("sim-small",),
    first_token: Annotated[float, Parameter(help="Seconds until the first token.")] = 0.2,
    tokens_per_second: Annotated[float, Parameter(help="Speed of one answer; 0: at once.")] = 60.0,
    answer_tokens: Annotated[int, Parameter(help="Length of an answer.")] = 40,
    price_in: Annotated[float, Parameter(help="Dollars per million input tokens, told in its model list.")] = 0.0,
    price_out: Annotated[float, Parameter(help="Dollars per million output tokens.")] = 0.0,
    slots: Annotated[int, Parameter(help="Answers at once; others wait.")] = 4,
    error_rate: Annotated[float, Parameter(help="Share of requests that fail with 500.")] = 0.0,
    fault: Annotated[
        tuple[str, ...], Parameter(help="Share of a fault, such as 500=0.1, 429=0.2, hang=0.05; may be repeated.")
    ] = (),
    seed: Annotated[int, Parameter(help="Decides which requests fail, and the words.")] = 0,
    output: Output = TEXT,
) -> int:
    """Run a simulated backend: it speaks the OpenAI protocol, makes up its words, and fails as told."""
    from actors.simbackend import SimSettings

    if not 0 <= port <= MOST_PORT:
        raise Wrong(f"--port is {port}: use 0 (any free one) to {MOST_PORT}")
    try:
        settings = SimSettings(
            name=name, models=model, first_token_seconds=first_token, tokens_per_second=tokens_per_second,
            answer_tokens=answer_tokens, price_input_microdollars=round(price_in * 1e6),
            price_output_microdollars=round(price_out * 1e6), slots=slots, error_rate=error_rate, faults=shares(fault),
            seed=seed,
        )  # fmt: skip
    except ValueError as error:
        raise Wrong(str(error), "turnout sim-backend --help") from None
    return play(_sim(settings, port, output))


def shares(faults: tuple[str, ...]) -> dict[Any, float]:
    """`500=0.1` as a share per fault. Raises ValueError."""
    found: dict[Any, float] = {}
    for text in faults:
        kind, equals, share = text.partition("=")
        try:
            found[kind.strip()] = float(share if equals else "1")
        except ValueError:
            raise ValueError(f"--fault {text!r}: write KIND=SHARE, such as 500=0.1") from None
    return found


async def _sim(settings: Any, port: int, output: Output) -> int:
    from actors.simbackend import SimServer

    stop = Stop()
    server = SimServer(settings, port=port)
    try:
        await server.start()
    except OSError as error:
        raise Complaint(f"can't listen on port {port}: {error}", hint="--port 0 takes any free one") from None
    told = output.stream()
    told.put({"event": "ready", "name": settings.name, "url": server.url, "models": settings.models})
    if not output.machine:
        _say(settings, server.url)
    try:
        await stop.wanted.wait()
    finally:
        await server.stop()
    told.put({"event": "stopped"})
    told.close()
    return OK


def _say(settings: Any, url: str) -> None:
    out.print(f"simulated backend {settings.name!r} at {url}", style="bold", soft_wrap=True)
    out.print(
        f"  models {', '.join(settings.models)}; faults {settings.rates() or 'none'}; Ctrl-C stops", soft_wrap=True
    )
    err.print("  what it answers is made up", style="dim")
