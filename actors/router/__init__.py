"""Hears: Analyzed, Retry, Due, Expired, JobCancel; facts Backend, Load, Breaker, Stats, Policy.
Says: Decided, Due (scheduled), Done (cancelled, expired, failed). Owns: which backend, and which next.
Never: keeps state about jobs, looks at budgets, calls a backend.
"""
