"""Hears: Analyzed, Attempted, Done, JobRate; facts Stats, Epoch. Says: Stats, Epoch, StatsReset, Refused.
Answers: JobsOf, AttemptsOf, Rebalance. Owns: the history (SQLite) and the rolling averages.
Never: stands in the way of a job.
"""
