"""What a price that nobody knows counts as while candidates are compared. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actors.router.case import Row
from messages import Plan


def assume_prices(rows: Sequence[Row], plan: Plan) -> None:
    """Count an unknown price as dear: `weights.dear_microdollars`, or one more than the dearest known price among the rows.

    Unknown is not free. So no strategy that looks at prices puts it before a known one of the same worth; where all prices are
    unknown they count alike, and the rest decides. Nothing is billed or reserved by it.
    """
    for row in rows:
        if row.known.price.unknown:
            break
    else:
        return
    known = [row.features.price_microdollars for row in rows if not row.known.price.unknown]
    assumed = max(plan.weights.dear_microdollars, max(known, default=0.0) + 1.0)
    for row in rows:
        if row.known.price.unknown:
            row.features = msgspec.structs.replace(row.features, price_microdollars=assumed, price_assumed=True)
            row.reason = row.reason or f"has an unknown price, which counts as ${assumed / 1e6:.6f}".rstrip("0")
