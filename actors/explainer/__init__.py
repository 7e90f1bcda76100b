"""Hears: Decided, Done. Says: Explained. Owns: the words, and what came of each tenant's latest jobs. Never: stands in
the way of a job.
"""
