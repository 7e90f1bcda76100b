"""The JSON in an answer, as models write it that were asked for JSON in words, and as servers tell it that parse no thoughts.

What stands around it is taken off from the outside, layer by layer, until JSON is left: thoughts, marks of the model's own
grammar, an element or a fence around all of it. Words before or after it are none of these: such an answer is no JSON. Pure.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from actors.executor.backends import port

_FENCED: Final = re.compile(
    r"(?P<fence>```|~~~)(?:[\w+-]*[ \t]*\n(?P<block>.*?)\s*|(?:json)?\s*(?P<line>[{\[].*[}\]])\s*)(?P=fence)",
    re.DOTALL | re.IGNORECASE,
)
_THOUGHT: Final = re.compile(
    r"\A<(\w*(?:think|thought|reason|reflect|analysis|scratchpad)\w*)(?:\s[^<>]*)?>.*?</\1\s*>",
    re.DOTALL | re.IGNORECASE,
)
_THOUGHT_END: Final = re.compile(
    r"</\w*(?:think|thinking|thought|thoughts|reasoning)>|\[/think\]|<\|end_(?:of_)?(?:thinking|thought)\|>|assistantfinal"
    r"|<\|channel\|>\s*final\b[^<>]{0,80}(?:<\|constrain\|>[^<>]{0,20})?<\|message\|>",
    re.IGNORECASE,
)
"""What ends them; a server that leaves out the marks of gpt-oss leaves `assistantfinal`."""
_ELEMENT: Final = re.compile(r"<([A-Za-z][\w:-]{0,40})(?:\s[^<>]*)?>(.*)</\1\s*>", re.DOTALL)
_SIGN: Final = r"(?:<\|[^<>|\n]{1,60}\|>|<\|\w{1,30}>|<\w{1,30}\|>|</?s>|<(?:bos|eos|end_of_turn)>)"
_SIGNS_BEFORE: Final = re.compile(rf"\A(?:{_SIGN}\s*)+")
_SIGNS_AFTER: Final = re.compile(rf"(?:\s*{_SIGN})+\Z")
_TAIL: Final = 500
"""Characters at the end among which marks are looked for."""
_LAYERS: Final = 8
MISPLACED: Final = "it stood where the model's thoughts belong"


def unfenced(text: str) -> str:
    """The JSON without what stands around it; a text that is none as it is, as far as nothing can be taken off it."""
    if _decoded(text) is not None:
        return text
    begun = said = _stripped(text)
    for _ in range(_LAYERS):
        if _decoded(said) is not None:
            return said
        peeled = _peeled(said)
        if peeled in ("", said):
            break
        said = peeled
    return text if said == begun else said


def placed(answer: port.Answer) -> port.Answer:
    """The answer to a job that asks for JSON, with the JSON as its text where a server took it for thoughts."""
    if answer.text.strip() or answer.tool_calls or answer.refusal or not answer.reasoning:
        return answer
    found = unfenced(answer.reasoning)
    decoded = _decoded(found)
    if decoded is None or not isinstance(decoded[0], dict | list):
        return answer
    usage = msgspec.structs.replace(answer.usage, thought_bytes=0)
    moved = msgspec.structs.replace(answer, text=found, reasoning="", usage=usage)
    return port.remarked(moved, port.Remark("thoughts", MISPLACED))


def _peeled(said: str) -> str:
    """One layer less; the same when there is none."""
    for pattern in (_THOUGHT, _SIGNS_BEFORE):
        if found := pattern.match(said):
            return _stripped(said[found.end() :])
    if found := _SIGNS_AFTER.search(said, max(0, len(said) - _TAIL)):
        return _stripped(said[: found.start()])
    if found := _FENCED.fullmatch(said):
        return _stripped(found["block"] if found["line"] is None else found["line"])
    if found := _ELEMENT.fullmatch(said):
        return _stripped(found[2])
    ends = [found.end() for found in _THOUGHT_END.finditer(said)]
    return _stripped(said[ends[-1] :]) if ends else said


def _stripped(text: str) -> str:
    return text.strip().lstrip("\ufeff").strip()


def _decoded(text: str) -> tuple[Any] | None:
    """The value, in a tuple; None: it is no JSON."""
    try:
        return (msgspec.json.decode(text),)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None
