"""What the outside says about a job that is there: is it well said, and about which job? Pure.

A submission has checks of its own, in the analyzer. What is said here in vain is answered with `Refused`: nothing vanishes.
"""

from __future__ import annotations

import math
from typing import Final, Literal

from actors.actor import Heard
from actors.problem import invalid
from messages import Done, JobCancel, JobRate, JobResume, Problem, Refused, token, untoken

Word = JobCancel | JobRate | JobResume
LEAST_SCORE, MOST_SCORE = 1.0, 5.0
NOBODY: Final = "-"
"""The tenant of a word that names none."""
MOST_NAME: Final = 128
"""Characters of a person's or validator's name."""
MOST_REASON: Final = 2_000
"""Characters of a reason: it stands in the job's end."""
_NAMES: Final[dict[type[Word], Literal["cancel", "rate", "resume"]]] = {
    JobCancel: "cancel", JobRate: "rate", JobResume: "resume",
}  # fmt: skip
_TEXTS: Final[dict[type[Word], tuple[str, int]]] = {
    JobCancel: ("reason", MOST_REASON), JobRate: ("rater", MOST_NAME), JobResume: ("by", MOST_NAME),
}  # fmt: skip


def job_at(heard: Heard) -> tuple[str, str]:
    """The tenant and the job that a word is about, as its subject tells."""
    tenant, job = (*map(untoken, heard.subject.split(".")[2:4]), "", "")[:2]
    return tenant or NOBODY, job or f"in-{heard.seq}"


def place_fault(heard: Heard, *names: str) -> Problem | None:
    """What is wrong with a subject that has more or fewer names behind its first two than it must; None: nothing."""
    parts = heard.subject.split(".")
    if len(parts) == 2 + len(names):
        return None
    right = ".".join((*parts[:2], *(f"<{name}>" for name in names)))
    more = "; a dot within a name is written %2E" if len(parts) > 2 + len(names) else ""
    return invalid("subject", heard.subject, f"publish it on {right}{more}.")


def fault(word: Word, heard: Heard) -> Problem | None:
    """What is wrong with a word, whatever its job: the field, its value, and what would be right."""
    misplaced = place_fault(heard, "tenant", "job")
    if misplaced is not None:
        return misplaced
    where = dict(zip(("tenant", "job"), heard.subject.split(".")[2:4], strict=True))
    for field, plain in zip(("tenant", "job"), job_at(heard), strict=True):
        if where[field] != token(plain):
            return invalid(field, where[field], f"in a subject, the {field} {plain!r} is written {token(plain)!r}.")
        said = getattr(word, field)
        if said not in ("", plain):
            return invalid(field, said, f"the subject says {plain!r}; they must be equal, or leave {field} out.")
    field, most = _TEXTS[type(word)]
    text = getattr(word, field)
    if len(text) > most:
        return invalid(field, text, f"use at most {most:,} characters; these are {len(text):,}.")
    if isinstance(word, JobRate) and not (math.isfinite(word.score) and LEAST_SCORE <= word.score <= MOST_SCORE):
        return invalid("score", word.score, f"use {LEAST_SCORE:g} (useless) to {MOST_SCORE:g} (excellent).")
    return None


def unknown(heard: Heard) -> Problem:
    """There is no such job, or it is another tenant's: which of both, nobody is told."""
    tenant, job = job_at(heard)
    return invalid("job", job, f"tenant {tenant!r} has no job of this id; the id is the one its events carry.")


def over(done: Done, right: str) -> Problem:
    """The job has ended in a way that leaves nothing to do."""
    return invalid("job", done.job, f"it has ended ({done.ending}): {right}")


def refused(word: Word, problem: Problem, heard: Heard) -> Refused:
    """The answer to a word that changes nothing."""
    tenant, job = job_at(heard)
    if len(heard.subject.split(".")) == 3 and word.job:
        job = word.job  # The client may wait for the answer there.
    return Refused(tenant=tenant, job=job, word=_NAMES[type(word)], problem=problem, at=heard.now)
