"""`python -m scenarios.demo`: the same as `turnout demo`."""

from cyclopts import run

from scenarios.demo import demo

run(demo)
