"""`python -m server`: the server with its settings from the environment alone."""

import sys

from server.waiting import spin_shortly

if __name__ == "__main__":
    spin_shortly()
    from server.config import Settings, unknown_variables
    from server.serve import run

    if sys.argv[1:]:
        sys.exit("python -m server takes no options: set SOFTPROMPT_* variables, or say softprompt serve")
    if unknown := unknown_variables():
        sys.exit(f"not a setting: {', '.join(unknown)}")
    run(Settings(), lambda _, __: None)
