"""What `softprompt doctor` says of the machine: its CPU, kernels, memory, disks, limits. Loads no base.

Knows Linux best; on other systems what cannot be asked is left out.
"""

import os
import platform
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers

from cli.finding import Finding
from prompt_store.findings import size
from server.api.door import OWN_FILES
from server.config import Settings
from server.engine.kv import KVCache
from server.engine.model import BaseModel
from server.engine.native.binding import kernels

CPU_INFO, MAPS = Path("/proc/cpuinfo"), Path("/proc/self/maps")
MEM_INFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
FLAGS = {
    "avx2": "AVX2",
    "avx512f": "AVX512",
    "avx512_bf16": "bfloat16 products",
    "avx512_vnni": "8-bit products",
    "amx_bf16": "AMX",
    "asimd": "NEON",
}
"""A CPU's flags that the server's speed hangs on."""
ALLOCATORS = ("tcmalloc", "jemalloc", "mimalloc")
LEAST_ROOM = 2**30
"""Bytes free on a disk below which somebody should look."""


def machine() -> Iterator[Finding]:
    """Facts, and what makes a CPU slower than it need be."""
    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no CUDA"
    yield Finding("machine", f"{platform.machine()}, {_cpus()} CPUs, {cuda}")
    versions = f"{platform.python_version()}, {torch.__version__}, {transformers.__version__}"
    yield Finding("python, torch, transformers", versions)
    if features := _features():
        yield Finding("CPU features", ", ".join(features))
    found = kernels(torch.float32, torch.device("cpu"))
    if isinstance(found, str):
        yield Finding("native kernels", found, advice="with gcc (Debian: apt install gcc libc6-dev): make install")
    preloaded = _allocator()
    advice = None if preloaded else "apt install libtcmalloc-minimal4, LD_PRELOAD=libtcmalloc_minimal.so.4"
    yield Finding("preloads", preloaded or "none: malloc is libc's", advice=advice)


def limits(settings: Settings) -> Iterator[Finding]:
    """Open files, and room where the store and the jobs are."""
    wanted = settings.max_waiting + settings.max_batch + OWN_FILES
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)  # the server raises the lower limit to it
    enough = most == resource.RLIM_INFINITY or most >= wanted
    advice = None if enough else f"{wanted} let as many clients wait as --max-waiting allows: ulimit -n {wanted}"
    yield Finding("open files", "no limit" if most == resource.RLIM_INFINITY else f"at most {most}", advice=advice)
    places = {"store": settings.store} if "://" not in settings.store else {}
    places |= {"jobs": settings.jobs} if settings.jobs else {}
    for name, place in places.items():
        yield _room(f"disk of the {name}", Path(place))


def too_large(files: Path) -> Finding | None:
    """A base whose files alone are larger than the memory is not even loaded."""
    weights, memory = sum(one.stat().st_size for one in files.glob("*.safetensors")), available()
    if memory is None or weights < memory:
        return None
    said = f"the base's files have {size(weights)}, {size(memory)} of memory are free"
    return Finding("memory", said, good=False, advice="a smaller base, or a machine with more memory")


def memory(base: BaseModel, settings: Settings) -> Iterator[Finding]:
    """What the base has and what keys, values, soft prompts and texts may come to, against what there is."""
    shape = base.shape
    weights = base.parameters * (1 if base.int8 else base.dtype.itemsize)
    span = min(settings.max_total_tokens or shape.context, shape.context)
    position = KVCache.bytes_per_position(shape.layers, shape.kv_heads, shape.head_dim, base.dtype)
    budgets = {
        "keys and values": min(settings.kv_budget, position * span * settings.max_batch),
        "soft prompts": settings.prompt_budget,
        "texts": settings.text_budget,
    }
    on_device = base.device.type == "cuda"
    there = torch.cuda.mem_get_info(base.device)[0] if on_device else available()
    if there is None:
        return
    free = there if on_device else there + weights  # the base that was loaded for this is in memory already
    wanted = weights + sum(budgets.values())
    parts = ", ".join(f"{name} {size(number)}" for name, number in budgets.items())
    said = f"at most {size(wanted)} (base {size(weights)}, {parts}) of {size(free)} free"
    advice = None if wanted <= free else "smaller --kv-budget, --prompt-budget or --text-budget, or --max-total-tokens"
    yield Finding("memory", said, good=wanted <= free, advice=advice)


def available() -> int | None:
    """Bytes that a new process may have; None where nobody tells."""
    found = [_meminfo(), _cgroup()]
    return min((one for one in found if one is not None), default=None)


def _meminfo() -> int | None:
    if not MEM_INFO.is_file():
        return None
    lines = MEM_INFO.read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _cgroup() -> int | None:
    """The container's limit."""
    if not CGROUP.is_file():
        return None
    text = CGROUP.read_text(encoding="ascii").strip()
    return int(text) if text.isdecimal() else None


def _room(what: str, place: Path) -> Finding:
    there = next(one for one in (place.absolute(), *place.absolute().parents) if one.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding(what, f"{there} cannot be written", good=False, advice="another place, or the right to write")
    free = shutil.disk_usage(there).free
    advice = None if free >= LEAST_ROOM else "make room: publishing to a full disk is refused (507)"
    return Finding(what, f"{size(free)} free at {there}", good=free >= LEAST_ROOM, advice=advice)


def _cpus() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _features() -> list[str]:
    if not CPU_INFO.is_file():
        return []
    lines = CPU_INFO.read_text(encoding="utf-8").splitlines()
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return [said for flag, said in FLAGS.items() if flag in flags]


def _allocator() -> str | None:
    """What stands in front of malloc."""
    mapped = MAPS.read_text(encoding="utf-8") if MAPS.is_file() else ""
    return next((name for name in ALLOCATORS if name in mapped), None)
