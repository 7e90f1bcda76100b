"""Hears: facts Backend, Load, Breaker, BudgetState, Limit; overhears Retry, Due. Says: Due.

Who waits for what, in one index, and who goes on when that changes.
"""
