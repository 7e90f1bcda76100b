"""Hears: Analyzed, Retry, Due, Expired, JobCancel; facts Backend, Load, Breaker, Stats, Epoch, ModelPrice, Policy.
Says: Decided, Due (scheduled), Done (cancelled, expired, failed). Answers: PreviewOf, EstimateOf, QuoteOf, PoliciesOf.
Owns: which backend, and which next. Never: keeps state about jobs, looks at budgets, calls a backend.
"""
