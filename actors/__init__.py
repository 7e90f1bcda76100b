"""The actors: event handlers that route, run and watch generation jobs."""
