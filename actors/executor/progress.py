"""How far an attempt is, as often as somebody can follow it. Pure."""

from __future__ import annotations

import base64
import math
from typing import Final, Literal

from actors.executor.backends import port
from messages import Progress, Work

STEP_SECONDS: Final = 0.25
"""Two steps of one stage are said at least so far apart, but for one that shows a picture: servers send it right after the step
that it belongs to.
"""
PREVIEW_SECONDS: Final = 0.5
"""The same for two pictures."""
PREVIEW_BYTES: Final = 100_000
"""A larger picture is left out."""


class Course:
    """Numbers what is said of one attempt, and leaves out what comes too soon after the last."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._number = 0
        self._said_at = self._shown_at = -math.inf
        self.stage: port.Stage | None = None
        """What the backend said last that it does; None: nothing yet."""
        self.worked = False
        """It has begun to make something."""

    def mark(self, stage: Literal["called", "loading", "first_token", "working"], text: str = "") -> Progress:
        """Something that is said whenever it happens."""
        return self._say(stage, text=text)

    def alive(self) -> None:
        """A piece of the answer has come, or a sign that it is made."""
        self.stage, self.worked = "working", True

    def step(self, step: port.Step, now: float) -> Progress | None:
        """What to say of a step at `now`, in seconds of a clock that does not go back; None: nothing."""
        changed, self.stage = step.stage != self.stage, step.stage
        self.worked = self.worked or step.stage == "working"
        preview = ""
        if 0 < len(step.preview) <= PREVIEW_BYTES and now - self._shown_at >= PREVIEW_SECONDS:
            preview = base64.b64encode(step.preview).decode()
        if not changed and not preview and now - self._said_at < STEP_SECONDS:
            return None
        self._said_at = now
        if preview:
            self._shown_at = now
        share = None if step.share is None else min(max(step.share, 0.0), 1.0)
        return self._say(step.stage, share=share, text=step.text[:200], preview=preview)

    def _say(
        self,
        stage: Literal["called", "queued", "loading", "working", "first_token"],
        *,
        share: float | None = None,
        text: str = "",
        preview: str = "",
    ) -> Progress:
        work, self._number = self._work, self._number + 1
        return Progress(
            tenant=work.tenant, job=work.job, n=work.n, number=self._number - 1, stage=stage, backend=work.backend,
            share=share, text=text, preview=preview,
        )  # fmt: skip
