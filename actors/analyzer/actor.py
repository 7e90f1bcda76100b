"""The analyzer: what does this job need?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from actors import door
from actors.actor import Actor, Heard, Later, Says, answers, hears
from actors.analyzer.check import check, lenient_id, reserved, undecodable
from actors.analyzer.fleet import Fleet
from actors.analyzer.needs import needs_of
from actors.analyzer.preferences import Preferences
from actors.analyzer.request import fingerprint, head_of
from actors.analyzer.rules import rules_of
from actors.problem import invalid
from messages import (
    Analyzed,
    Backend,
    DeadLetter,
    Done,
    Expired,
    JobSubmit,
    Message,
    Needs,
    NeedsAre,
    NeedsOf,
    Policy,
    Preference,
    Problem,
    Refused,
    Slip,
    Stats,
    token,
    untoken,
)

INLINE_BYTES = 8_192
"""A submission up to this size travels with the job; a larger one stays in `IN` and is read from there."""


class Analyzer(Actor):
    """Turns a submission into a job with needs and a deadline, or rejects it with the field that is wrong."""

    room = "analyzer"

    def __init__(
        self,
        *,
        default_deadline_seconds: float,
        longest_deadline_seconds: float,
        strategies: Iterable[str],
        policies: Iterable[Policy] = (),
    ) -> None:
        """`policies` are the shipped ones; a fact of the same name takes a policy's place."""
        self.default_deadline_seconds = default_deadline_seconds
        self.longest_deadline_seconds = longest_deadline_seconds
        self.strategies = tuple(strategies)
        self._policies = {policy.policy: policy for policy in policies}
        self._rules = rules_of(self._policies.values())
        self._preferences = Preferences(self.strategies)
        self._fleet = Fleet()

    @hears
    def backend(self, backend: Backend, heard: Heard) -> None:
        self._fleet.hear_backend(backend)

    @hears
    def stats(self, stats: Stats, heard: Heard) -> None:
        self._fleet.hear_stats(stats)

    @hears
    def policy(self, policy: Policy, heard: Heard) -> None:
        self._policies[policy.policy] = policy
        self._rules = rules_of(self._policies.values())

    @hears
    def preference(self, preference: Preference, heard: Heard) -> None:
        self._preferences.hear(preference)

    def forget(self, message: Message) -> None:
        """A fact is deleted: what is known of it goes too."""
        if isinstance(message, Backend):
            self._fleet.forget_backend(message)
        elif isinstance(message, Stats):
            self._fleet.forget_stats(message)

    @hears
    def job_submit(self, submit: JobSubmit, heard: Heard) -> Says[Analyzed]:
        tenant = _tenant(heard)
        problem = door.place_fault(heard, "tenant") or _miswritten(heard, tenant) or self._check(submit, tenant)
        if problem:
            usable = problem.field != "id"
            rejected = _rejected(tenant, (usable and submit.id) or f"in-{heard.seq}", problem, heard)
            return [msgspec.structs.replace(rejected, head=head_of(submit))]
        job = submit.id or f"in-{heard.seq}"
        wait = submit.deadline_seconds or self.default_deadline_seconds
        slip = Slip(
            tenant=tenant,
            job=job,
            submitted_at=heard.stored_at,
            deadline_at=heard.stored_at + wait,
            input_seq=heard.seq,
            input=msgspec.Raw(heard.body if len(heard.body) <= INLINE_BYTES else b"null"),
            needs=self._needs(submit, tenant),
            request=fingerprint(tenant, submit),
        )
        fingerprint_, head = _fingerprint(heard), head_of(submit)
        return [Analyzed(tenant=tenant, job=job, fingerprint=fingerprint_, slip=slip, head=head, at=heard.now)]

    def undecodable(self, heard: Heard) -> Says[Analyzed | DeadLetter]:
        """A body that is no submission: it ends as a rejected job, and its beginning is kept."""
        tenant = _tenant(heard)
        problem = undecodable(heard.undecodable)
        given = lenient_id(heard.body)
        job = given if given and len(given) <= 128 and not reserved(given) else f"in-{heard.seq}"
        letter = DeadLetter(
            tenant=tenant,
            job=job,
            stream=heard.stream,
            seq=heard.seq,
            subject_heard=heard.subject,
            problem=problem,
            head=heard.body[:200].decode("utf-8", "replace"),
            at=heard.now,
        )
        return [_rejected(tenant, job, problem, heard), letter]

    @hears
    def analyzed(self, analyzed: Analyzed, heard: Heard) -> Says[Refused | Done | Expired]:
        """The stored understanding of a job, ours or an earlier one: what follows from it alone."""
        lost = heard.lost
        if isinstance(lost, Analyzed) and lost.fingerprint != analyzed.fingerprint:
            why = lost.rejected or invalid(
                "id", analyzed.job, "it is in use for a job with another body; choose a new one."
            )
            return [Refused(tenant=analyzed.tenant, job=analyzed.job, problem=why, at=heard.now)]
        if analyzed.slip is None:
            problem = analyzed.rejected or Problem(reason="invalid", message="rejected")
            return [
                Done(
                    tenant=analyzed.tenant,
                    job=analyzed.job,
                    ending="rejected",
                    problem=problem,
                    at=heard.now,
                    cost_microdollars=0,
                )
            ]
        expired = Expired(tenant=analyzed.tenant, job=analyzed.job, at=analyzed.slip.deadline_at)
        return [Later(expired, at=analyzed.slip.deadline_at)]

    @answers
    def needs_of(self, question: NeedsOf, heard: Heard) -> NeedsAre:
        problem = self._check(question.submit, question.submit.tenant)
        return (
            NeedsAre(problem=problem)
            if problem
            else NeedsAre(needs=self._needs(question.submit, question.submit.tenant))
        )

    def _needs(self, submit: JobSubmit, tenant: str) -> Needs:
        return needs_of(submit, tenant, self._rules, self._preferences, self._fleet)

    def _check(self, submit: JobSubmit, tenant: str) -> Problem | None:
        return check(
            submit,
            tenant=tenant,
            models=self._fleet.models,
            catalogue=self._rules.catalogue,
            recipes=self._fleet.recipes,
            strategies=self.strategies,
            longest_deadline=self.longest_deadline_seconds,
        )


def _tenant(heard: Heard) -> str:
    parts = heard.subject.split(".")
    return untoken(parts[2]) if len(parts) > 2 else door.NOBODY


def _miswritten(heard: Heard, tenant: str) -> Problem | None:
    """A tenant that is not encoded as every event encodes it: its client would wait for the end at another place."""
    written = heard.subject.split(".")[2]
    if not tenant or written == token(tenant):
        return None
    return invalid("tenant", written, f"in a subject, the tenant {tenant!r} is written {token(tenant)!r}.")


def _fingerprint(heard: Heard) -> str:
    return hashlib.blake2b(heard.body, digest_size=12).hexdigest()


def _rejected(tenant: str, job: str, problem: Problem, heard: Heard) -> Analyzed:
    return Analyzed(tenant=tenant, job=job, fingerprint=_fingerprint(heard), rejected=problem, at=heard.now)
