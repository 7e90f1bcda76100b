"""Hears: Decided. Says: Explained. Owns: the words. Never: stands in the way of a job."""
