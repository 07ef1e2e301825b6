"""What a run is computed with."""

from __future__ import annotations

import functools
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import dytemp
from dytemp import checks

DEVICES = ("auto", "cpu", "cuda", "mps")


def device(name: str) -> torch.device:
    """Return the device that is meant."""
    checks.choice("device", name, DEVICES)
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    return torch.device(name)


def precision(name: str, device: torch.device) -> str:
    """Replace ``"auto"`` by bfloat16 where the hardware computes in it, else by float32."""
    if name != "auto":
        return name
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Older versions of torch do not tell; without the instructions bfloat16 is slower.
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        fast = device.type == "cpu" and any(
            capabilities.get(f"{x}_bf16") for x in ("avx512", "amx")
        )
    return "bfloat16" if fast else "float32"


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use this many threads for a while; their number decides the order of additions."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def environment() -> dict[str, Any]:
    """Return what the numbers of a run may depend on beside its configuration."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
    }


@functools.cache  # the code of a process is that of its start
def code() -> str:
    """Return the version, with the commit if this is a clone ("+" if files have changed since)."""
    clone = Path(dytemp.__file__).parents[1]
    git = ["git", "-C", str(clone), "describe", "--always", "--dirty=+"]
    if not (clone / ".git").exists():
        return dytemp.__version__
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return dytemp.__version__
    return f"{dytemp.__version__} at {commit}"


def _processor() -> str:
    """Return the name of the processor; on Linux `platform.processor` is mostly empty."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(encoding="utf-8").splitlines() if table.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
