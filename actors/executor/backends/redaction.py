"""Taking keys out of what servers say: ours by their letters, others' by their looks. Pure.

Servers echo the key that they refuse, whole or with stars in its middle, in sentences, in addresses and in headers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

MARK: Final = "[redacted]"

_LOOKS: Final = (
    r"\b(?:sk|rk|pk|rpa)[-_][A-Za-z0-9_-]{12,}",
    r"\b(?:sk|rk|pk|rpa|gsk|xai|hf)[-_][A-Za-z0-9_-]*(?:\.{2,}|…|•+)[A-Za-z0-9_-]*",
    r"\b(?:gsk|xai|hf|r8|nvapi|pplx|csk|tgp|glpat|ghp|tvly|sess)[-_][A-Za-z0-9_-]{16,}",
    r"\bAIza[A-Za-z0-9_*-]{8,}",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}",
    r"\bya29\.[\w.-]{8,}",
    r"\beyJ[\w-]{8,}(?:\.[\w-]+){1,2}",
    r"(?i:(?<=Bearer ))[^\s\"',;)]+",
    r"(?i:(?<=Basic ))[A-Za-z0-9+/=]{8,}",
    r"[A-Za-z0-9_-]{1,64}\*{3,}[A-Za-z0-9_*-]*",
)
"""Keys as the known providers make them, tokens after their scheme, and whatever has stars in its middle."""
_KEYS: Final = re.compile("|".join(_LOOKS))
_NAMES: Final = (
    r"(?:x-)?(?:api[-_ ]?key|access[-_ ]?(?:key|token)|auth[-_ ]?token|"
    r"secret[-_ ]?key|client[-_]?secret|password|authorization)"
)
_NAMED: Final = re.compile(
    rf"(?i)(\b{_NAMES}\b(?:[\"'\]]*\s*[=:]\s*|\s+(?:provided|given|received|supplied)[:=]?\s+|\s+is[:=]\s+)[\"'`(]*)"
    r"(?!\[redacted\]|Bearer |Basic )([^\s\"'`,;&<>(){}\[\]]{6,})"
)
"""What stands behind the name of a key: `Incorrect API key provided: …`, `api_key=…`, `"api_key": "…"`."""
_IN_ADDRESS: Final = re.compile(
    r"(?i)([?&](?:key|token|sig|signature|access_token|api_key|apikey|secret|x-amz-signature)=)[^&\s\"'<>]+"
)


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` without any of `secrets`, however they are written in it, and without what looks like a key."""
    for secret in secrets:
        for form in dict.fromkeys(
            (secret, quote(secret, safe=""), json.dumps(secret)[1:-1], secret.replace("/", "\\/"))
        ):
            if form:
                text = text.replace(form, MARK)
        if len(secret) >= _SHOWN * 2:  # `sk-proj-abcd…wxyz`: shown with its middle left out.
            ends = rf"{re.escape(secret[:_SHOWN])}[\w-]*(?:\*+|\.{{2,}}|…|•+|x{{4,}})[\w*-]*"
            text = re.sub(ends, MARK, text)
    text = _KEYS.sub(MARK, text)
    text = _IN_ADDRESS.sub(rf"\g<1>{MARK}", text)
    return _NAMED.sub(rf"\g<1>{MARK}", text)


_SHOWN: Final = 4
"""So many letters of a key's beginning tell that it is ours."""
