"""A backend that is simulated, and says so: for demos, drills and tests.

A real HTTP server that speaks the OpenAI protocol, answers at a set pace with made-up words, and fails as it is told:
`PUT /sim/faults` changes the faults, `GET /sim/state` counts, `POST /sim/die` ends it abruptly. Every answer says that
it is simulated: in the header `x-turnout-simulated`, in `system_fingerprint` and in the text. It hears and says no
events. Meant for loopback: it asks nobody for a key.
"""

from actors.simbackend.server import SimServer, serve
from actors.simbackend.settings import FAULTS, Fault, SimSettings

__all__ = ["FAULTS", "Fault", "SimServer", "SimSettings", "serve"]
