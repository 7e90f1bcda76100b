"""How it travels: the contract, JetStream, an in-memory twin for simulation, the codec, the embedded server."""
