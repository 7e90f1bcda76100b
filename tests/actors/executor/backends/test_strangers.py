import asyncio
import socket

import httpx
import pytest

from actors.executor.backends.strangers import NotPublic, PublicResolver, refusal


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("https://cdn.example.com/x.png", True),
        ("https://8.8.8.8/x.png", True),
        ("http://cdn.example.com/x.png", False),
        ("ftp://cdn.example.com/x.png", False),
        ("https://somebody:word@cdn.example.com/x.png", False),
        ("https://10.0.0.7/x.png", False),
        ("https://[::ffff:127.0.0.1]/x.png", False),
        ("https://169.254.169.254/latest", False),
    ],
)
def test_places_that_are_not_asked(url: str, fine: bool) -> None:
    assert (refusal(httpx.URL(url), allow_private=False) == "") is fine


def test_private_networks_only_where_they_are_allowed_and_metadata_never() -> None:
    assert refusal(httpx.URL("http://10.0.0.7/x"), allow_private=True) == ""
    assert refusal(httpx.URL("http://169.254.169.254/x"), allow_private=True)


def test_names_are_judged_by_where_they_lead_but_for_proxies() -> None:
    async def main() -> None:
        for exempt, allowed in ((frozenset[str](), False), (frozenset({"localhost"}), True)):
            resolver = PublicResolver(exempt, allow_private=False)
            try:
                if allowed:
                    assert await resolver.resolve("localhost", 80, socket.AF_INET)
                else:
                    with pytest.raises(NotPublic):
                        await resolver.resolve("localhost", 80, socket.AF_INET)
            finally:
                await resolver.close()

    asyncio.run(main())
