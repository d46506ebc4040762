"""`python -m server`: the server with its settings from the environment alone."""

import sys

from server.early import ending_when_told, uncollected
from server.waiting import spin_shortly

CANNOT_START = 2

if __name__ == "__main__":
    spin_shortly()
    with ending_when_told():
        with uncollected():
            from server.serve import start

        if sys.argv[1:]:
            sys.exit("python -m server takes no options: set SOFTPROMPT_* variables, or say softprompt serve")
        for line in start({}, lambda _, __: None):
            sys.stderr.write(f"python -m server: {line}\n")
    sys.exit(CANNOT_START)
