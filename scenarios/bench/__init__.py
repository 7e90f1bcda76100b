"""`make bench`: floors with nats-py alone and our own figures, in one run against the same nats-server."""
