"""What processes are forked off with, as a command of its own would have imported it: the collector never sees it."""

from server.early import uncollected

with uncollected():
    import cli.evaluate
    import cli.main
    import cli.serve
    import cli.tune  # noqa: F401 - to be there is all that is asked
