"""What `turnout backends add` is told beside the address."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


@Parameter(name="*", group="Adding")
@dataclass(frozen=True, kw_only=True)
class Adding:
    """How an added backend is reached, and what it is called."""

    name: Annotated[str, Parameter(help="Its name. [after its kind and host]")] = ""
    key_env: Annotated[str, Parameter(help="Environment variable that holds its key.")] = ""
    local: Annotated[
        bool | None, Parameter(negative="--cloud", help="Runs on hardware of ours, or not. [as its address tells]")
    ] = None
    ca_file: Annotated[str, Parameter(help="PEM file of the authorities to trust.")] = ""
    verify_tls: Annotated[bool, Parameter(help="Check its certificate.")] = True
    proxy_env: Annotated[str, Parameter(help="Environment variable with the URL of its proxy.")] = ""
    write: Annotated[Path | None, Parameter(help="Put it into this settings file. [only show it]")] = None
