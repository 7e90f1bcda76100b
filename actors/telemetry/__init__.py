"""Hears: Analyzed, Attempted, Done, JobRate; facts Stats. Says: Stats. Answers: JobsOf, AttemptsOf.
Owns: the history (SQLite) and the rolling averages. Never: stands in the way of a job.
"""
