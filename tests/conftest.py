"""How properties are searched: never by the wall clock, and with the same examples for everybody. EXAMPLES=random draws others,
as `make soak` does.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "random", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)  # A busy machine is no fault of the code.
settings.register_profile("same", settings.get_profile("random"), derandomize=True)
settings.load_profile("random" if os.environ.get("EXAMPLES") == "random" else "same")
