"""Compiles the native kernels while the package is built or installed; without a compiler it stays pure Python."""

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelsHook(BuildHookInterface[Any]):
    """Named by pyproject.toml for the wheel, an editable one included."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        path = Path(self.root, "server", "engine", "native", "build.py")
        spec = importlib.util.spec_from_file_location("build_kernels", path)
        if spec is None or spec.loader is None:
            raise FileNotFoundError(path)
        build = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(build)
        try:
            build.compile_kernels()
        except build.NotCompiled as error:
            self.app.display_warning(f"no native kernels, the server will be slower: {error}")
            return
        build_data["artifacts"].append(str(build.LIBRARY.relative_to(self.root)))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
