"""A client of a softprompt server, sync and async: httpx and the standard library alone (docs/client.md)."""

from softprompt_client.async_client import AsyncClient
from softprompt_client.client import Client
from softprompt_client.errors import SoftpromptError

__all__ = ["AsyncClient", "Client", "SoftpromptError"]
