"""Hears: Work; overhears Done; hears ExecutorAlive. Says: Started, Attempted, Done, Retry, Chunk, Progress, ExecutorAlive.
Owns: running one attempt on one backend. Never: chooses a backend, looks at a budget.
"""
