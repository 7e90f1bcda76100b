"""Hears: ExecutorAlive; facts Backend, Load. Says: Backend, Load. Owns: which backends are there, what they can do, how they are.
Creates the executors' queues (rule 8). Never: calls a backend, looks at jobs.
"""
