"""The scenarios: scripted runs, faults and benchmarks over the whole system."""
