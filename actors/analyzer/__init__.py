"""Hears: JobSubmit, Backend, Stats, Policy, Preference. Says: Analyzed, Done (rejected), Refused, Expired (scheduled),
DeadLetter. Owns: what a job needs, and what it may take and cost over the models that are known. Never: looks at the
fleet's load, or chooses a backend.
"""
