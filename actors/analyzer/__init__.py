"""Hears: JobSubmit, Backend. Says: Analyzed, Done (rejected), Refused, Expired (scheduled), DeadLetter.
Owns: what a job needs. Never: looks at the fleet's load, or at what a job costs.
"""
