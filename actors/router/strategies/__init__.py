"""Strategies: how permitted candidates are scored. Each is a small pure function `(rows, case) -> Scored`; higher is better.

`docs/guides/strategies.md` says when to use which, and how to add one's own.
"""

from actors.router.strategies.registry import GROUP, STRATEGIES, StrategyError, load_strategies

__all__ = ["GROUP", "STRATEGIES", "StrategyError", "load_strategies"]
