"""What the faults' tests share with the server's."""

from tests.server.conftest import base_folder, silence

__all__ = ["base_folder", "silence"]
