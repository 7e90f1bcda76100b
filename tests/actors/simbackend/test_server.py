import asyncio
from typing import Any

import httpx
import pytest

from actors.simbackend import SimServer, SimSettings, serve

GOOD = {"model": "sim-small", "messages": [{"role": "user", "content": "hi there"}], "max_tokens": 8}


def root(server: SimServer) -> str:
    return server.url.removesuffix("/v1")


async def ask(client: httpx.AsyncClient, server: SimServer, **changes: Any) -> httpx.Response:
    return await client.post(f"{server.url}/chat/completions", json={**GOOD, **changes})


@pytest.mark.parametrize("speed", [0, 1000])
def test_whole_and_streamed_answers_agree_and_say_what_they_are(run, speed: float) -> None:
    async def main() -> None:
        async with (
            SimServer(SimSettings(name="demo", tokens_per_second=speed)) as server,
            httpx.AsyncClient() as client,
        ):
            whole = await ask(client, server)
            body = whole.json()
            text = body["choices"][0]["message"]["content"]
            assert text.startswith("[simulated by demo] ")
            assert body["system_fingerprint"] == "turnout-sim"
            assert body["usage"]["prompt_tokens"] == 2
            assert body["usage"]["completion_tokens"] == 8
            streamed = await ask(client, server, stream=True, stream_options={"include_usage": True})
            events = [
                httpx.Response(200, content=line[6:]).json() for line in streamed.text.splitlines() if "{" in line
            ]
            assert streamed.text.endswith("data: [DONE]\n\n")
            assert "".join(e["choices"][0]["delta"].get("content", "") for e in events if e["choices"]) == text
            assert events[-1]["choices"] == []
            assert events[-1]["usage"] == body["usage"]
            assert all(event["system_fingerprint"] == "turnout-sim" for event in events)
            bare = await ask(client, server, stream=True)
            assert "usage" not in bare.text
            for response in (whole, streamed, bare, await client.get(f"{root(server)}/nowhere")):
                assert response.headers["x-turnout-simulated"] == "true"

    run(main())


def test_models_health_and_refusals(run) -> None:
    async def main() -> None:
        settings = SimSettings(
            models=("a", "b"), price_input_microdollars=5, price_output_microdollars=7, context_tokens=10
        )
        async with SimServer(settings) as server, httpx.AsyncClient() as client:
            cards = (await client.get(f"{server.url}/models")).json()["data"]
            assert [card["id"] for card in cards] == ["a", "b"]
            assert cards[0]["price"] == {"input_microdollars_per_million": 5, "output_microdollars_per_million": 7}
            assert (await client.get(f"{root(server)}/health")).json() == {"status": "ok", "simulated": True}
            assert (await ask(client, server)).status_code == 404
            too_long = await ask(client, server, model="a", max_tokens=9)
            assert (too_long.status_code, too_long.json()["error"]["code"]) == (400, "context_length_exceeded")
            assert (await ask(client, server, model="a", messages="hi")).status_code == 400
            state = (await client.get(f"{root(server)}/sim/state")).json()
            assert (state["requests"], state["running"], state["faulted"]) == (0, 0, {})

    run(main())


def test_the_same_seed_gives_the_same_faults(run) -> None:
    async def statuses(seed: int) -> list[int]:
        settings = SimSettings(faults={"429": 0.3}, error_rate=0.3, seed=seed, retry_after_seconds=2)
        async with SimServer(settings) as server, httpx.AsyncClient() as client:
            return [(await ask(client, server)).status_code for _ in range(30)]

    async def main() -> None:
        first = await statuses(1)
        assert first == await statuses(1)
        assert first != await statuses(2)
        assert set(first) == {200, 429, 500}

    run(main())


def test_faults_can_be_changed_while_it_runs(run) -> None:
    async def main() -> None:
        async with SimServer(SimSettings(error_rate=1.0)) as server, httpx.AsyncClient() as client:
            faults = f"{root(server)}/sim/faults"
            assert (await ask(client, server)).status_code == 500
            assert (await client.put(faults, json={"429": 1})).json() == {"faults": {"429": 1.0}}
            refused = await ask(client, server)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            assert (await client.put(faults, json={})).status_code == 200
            assert (await ask(client, server)).status_code == 200
            for wrong in ({"fire": 1}, {"cut": 2}, {"cut": "x"}, [], {"cut": 0.9, "500": 0.9}):
                assert (await client.put(faults, json=wrong)).status_code == 400
            state = (await client.get(f"{root(server)}/sim/state")).json()
            assert (state["requests"], state["completed"], state["faulted"]) == (3, 1, {"500": 1, "429": 1})
            assert state["faults"] == {}

    run(main())


@pytest.mark.parametrize(("fault", "expected"), [("malformed", "broken"), ("structure", "wrong"), ("empty", "empty")])
def test_faults_of_whole_answers(run, fault: str, expected: str) -> None:
    async def main() -> None:
        async with SimServer(SimSettings(faults={fault: 1.0})) as server, httpx.AsyncClient() as client:  # type: ignore[dict-item]
            response = await ask(client, server)
            if expected == "broken":
                with pytest.raises(ValueError, match=r"."):
                    response.json()
            elif expected == "wrong":
                assert isinstance(response.json()["choices"], dict)
            else:
                assert response.json()["choices"][0]["message"]["content"] == ""

    run(main())


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("speed", [0, 1000])
def test_a_cut_breaks_the_connection(run, stream: bool, speed: float) -> None:
    async def main() -> None:
        settings = SimSettings(faults={"cut": 1.0}, tokens_per_second=speed)
        async with SimServer(settings) as server, httpx.AsyncClient() as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await ask(client, server, stream=stream)

    run(main())


def test_slots_queue_and_all_are_answered(run) -> None:
    async def main() -> None:
        settings = SimSettings(slots=2, first_token_seconds=0.02)
        async with SimServer(settings) as server, httpx.AsyncClient() as client:
            asked = [asyncio.create_task(ask(client, server)) for _ in range(9)]
            most = 0
            while not all(task.done() for task in asked):
                state = (await client.get(f"{root(server)}/sim/state")).json()
                most = max(most, state["running"])
            assert [task.result().status_code for task in asked] == [200] * 9
            assert 0 < most <= 2

    run(main())


def test_it_can_be_killed_and_come_back_on_its_port(run) -> None:
    async def main() -> None:
        async with SimServer(SimSettings(faults={"hang": 1.0})) as server, httpx.AsyncClient() as client:
            url = server.url
            hanging = asyncio.create_task(ask(client, server))
            while not (await client.get(f"{root(server)}/sim/state")).json()["running"]:
                pass
            assert (await client.post(f"{root(server)}/sim/die")).status_code == 202
            await server.wait_stopped()
            with pytest.raises(httpx.TransportError):
                await hanging
            with pytest.raises(httpx.ConnectError):
                await ask(client, server)
            await server.start()
            await server.start()
            assert server.url == url
            await client.put(f"{root(server)}/sim/faults", json={})
            assert (await ask(client, server)).status_code == 200
            state = (await client.get(f"{root(server)}/sim/state")).json()
            assert (state["requests"], state["running"]) == (2, 0)
            await server.stop()
            await server.kill()

    run(main())


def test_a_taken_port_is_an_error_and_serve_ends_when_cancelled_or_told_to_die(run) -> None:
    async def main() -> None:
        async with SimServer(SimSettings()) as server, httpx.AsyncClient() as client:
            with pytest.raises(OSError, match=str(server.port)):
                await serve(SimSettings(), port=server.port)
            port = server.port
            await server.stop()
            for dies in (True, False):
                serving = asyncio.create_task(serve(SimSettings(), port=port))
                while True:
                    try:
                        await client.get(f"http://127.0.0.1:{port}/health")
                        break
                    except httpx.ConnectError:
                        await asyncio.sleep(0.01)
                if dies:
                    await client.post(f"http://127.0.0.1:{port}/sim/die")
                    await serving
                else:
                    serving.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await serving

    run(main())
