"""How streams and consumers are described to the server, and what the server must be able to do."""

from __future__ import annotations

import re
from typing import Any

from bus.bus import BusError
from bus.jetstream_api import NANO, rfc3339
from bus.topology import Queue, Stream

NEEDED_VERSION = (2, 12)


def check_server(info: dict[str, Any]) -> None:
    """Refuse a server that is too old or has no JetStream."""
    version = str(info.get("version", "?"))
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < NEEDED_VERSION:
        needed = ".".join(map(str, NEEDED_VERSION))
        raise BusError(f"the nats-server is version {version}; turnout needs {needed} or newer")
    if not info.get("jetstream"):
        raise BusError(
            f"JetStream is off on the nats-server ({version}); start it with -js or a jetstream block in its config"
        )


def stream_config(stream: Stream, replicas: int) -> dict[str, Any]:
    """A stream of the topology."""
    config: dict[str, Any] = {
        "name": stream.name,
        "subjects": list(stream.subjects),
        "storage": "file",
        "retention": "workqueue" if stream.work_queue else "limits",
        "discard": "new" if stream.work_queue else "old",
        "num_replicas": replicas,
        "max_age": int(stream.max_age_seconds * NANO),
        "max_msgs": stream.max_messages,
        "max_bytes": -1,
        "max_msg_size": -1,
        "max_consumers": -1,
        "max_msgs_per_subject": 1 if stream.work_queue or stream.last_per_subject else -1,
        "duplicate_window": int(stream.duplicate_window_seconds * NANO),
        "allow_direct": True,
    }
    if stream.work_queue:
        config["discard_new_per_subject"] = True
    if stream.schedules:
        config |= {"allow_msg_schedules": True, "allow_msg_ttl": True}
    if stream.counters:
        config["allow_msg_counter"] = True
    if stream.republish:
        config["republish"] = {"src": stream.republish[0], "dest": stream.republish[1]}
    if stream.name.startswith("KV_"):  # What key-value clients expect of a bucket.
        config |= {"allow_rollup_hdrs": True, "deny_delete": True}
    return config


def consumer_config(queue: Queue, existing: dict[str, Any] | None) -> dict[str, Any]:
    """A durable pull consumer; what can't be changed is kept as it is."""
    config: dict[str, Any] = {
        "name": queue.name,
        "durable_name": queue.name,
        "filter_subjects": list(queue.filters),
        "ack_policy": "explicit",
        "ack_wait": int(queue.ack_wait_seconds * NANO),
        "max_deliver": -1,
        "max_ack_pending": queue.max_in_flight,
        "max_waiting": 4096,
        "replay_policy": "instant",
        "deliver_policy": "all",
    }
    if existing is not None:
        kept = ("deliver_policy", "opt_start_time", "opt_start_seq", "max_waiting")
        return config | {key: existing[key] for key in kept if key in existing}
    if queue.start_time is not None:
        # A float can't hold every nanosecond: a microsecond early is right, one late is not.
        config |= {"deliver_policy": "by_start_time", "opt_start_time": rfc3339(queue.start_time - 1e-6)}
    return config
