"""Whether a server has what a graph names: its node classes and files as one short text that fits into heartbeats. Pure.

Each name is three bytes of its BLAKE2b digest; all of them, sorted, are one text in base64. A server with custom nodes has
thousands of classes, whose names would be 100 kB every two seconds. A name that is not there is taken for one that is with a
chance of one in 2,000 at 8,000 names: then the server refuses the graph, which costs a call and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from functools import lru_cache

from messages.values import Media

GRAPH = "graph"
"""Capability of who runs a job's own graph, and the model that stands for one that loads none of the known models."""
BY_NAME = "by_name"
"""Capability of a model that only jobs may have that name one of its recipes."""
CHECKPOINT_INPUTS = ("ckpt_name", "unet_name", "gguf_name")
"""Inputs of nodes that name a base model."""
LORA_INPUTS = "lora"
"""Inputs of nodes that name a LoRA begin so."""
_BYTES = 3
_SHOWN = 8
_ANY = "*"


def packed(node_types: Iterable[str], checkpoints: Iterable[str] | None, loras: Iterable[str] | None) -> str:
    """What a server has; None: it does not list these, so that any of them may be there."""
    names = [("node", name) for name in node_types]
    for kind, files in (("checkpoint", checkpoints), ("lora", loras)):
        names += [(kind, name) for name in ((_ANY,) if files is None else files)]
    digests = {_digest(kind, name) for kind, name in names}
    return base64.b64encode(b"".join(sorted(digests))).decode()


def lacking(has: str, media: Media) -> tuple[str, ...]:
    """What a graph names and the server lacks, in words."""
    there = _unpacked(has)
    found = [f"the node class {name}" for name in media.node_types if _digest("node", name) not in there]
    for kind, word, names in (("checkpoint", "model file", media.checkpoints), ("lora", "LoRA", media.loras)):
        if _digest(kind, _ANY) not in there:
            found += [f"the {word} {name}" for name in names if _digest(kind, name) not in there]
    return tuple(found if len(found) <= _SHOWN else [*found[:_SHOWN], f"{len(found) - _SHOWN} more"])


def _digest(kind: str, name: str) -> bytes:
    return hashlib.blake2b(f"{kind}:{name}".encode("utf-8", "surrogatepass"), digest_size=_BYTES).digest()


@lru_cache(maxsize=64)
def _unpacked(has: str) -> frozenset[bytes]:
    data = base64.b64decode(has)
    return frozenset(data[at : at + _BYTES] for at in range(0, len(data), _BYTES))
