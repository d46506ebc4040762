"""`python -m server`: the server with its settings from the environment alone."""

import asyncio

from server.config import Settings
from server.serve import serve

if __name__ == "__main__":
    asyncio.run(serve(Settings(), lambda _, __: None))
