"""The command line `turnout ...`, above all rooms: starts nodes, publishes, listens, asks.

Commands are functions that the entry-point group `turnout.commands` names. Answers go to the standard output, everything
said about them to the standard error. Exit codes: 0 all is well, 1 something failed, 2 wrong usage, 3 no bus.
"""
