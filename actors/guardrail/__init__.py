"""Hears: Decided, Attempted, LedgerEntry; facts Breaker. Says: Granted, Rerouted, Work, Retry or Done (refused), Breaker.
Owns: whether an attempt may run now: budgets and breakers. Never: ranks backends, calls one.
"""
