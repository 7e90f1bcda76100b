"""A laboratory for strategies: a trace of jobs, three backends with queues and moods, and what each policy makes of it.

`python -m scenarios.lab FILE [--jobs N]` prints a table. The router's own survey and decision run here, in virtual time.
"""
