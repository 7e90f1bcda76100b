"""Hears: Decided, Attempted, JobResume, LedgerEntry; facts Breaker, Limit, BudgetState. Answers: BudgetsOf.
Says: Granted, Rerouted, Work, Retry, Held or Done (refused), Breaker, BudgetState.
Owns: whether an attempt may run now: budgets and breakers. Never: ranks backends, calls one.
"""
