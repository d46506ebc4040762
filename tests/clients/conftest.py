"""The server of the server's own tests, for those that count on one."""

from tests.server.conftest import base_folder, silence, site

__all__ = ["base_folder", "silence", "site"]
