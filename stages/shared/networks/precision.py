"""Which Keras dtype policy the hardware runs best."""

from pathlib import Path

from stages.shared.networks import backend, devices

CPU_FLAGS_FILE = Path("/proc/cpuinfo")
BFLOAT16_CPU_FLAGS = {"amx_bf16", "avx512_bf16"}
BFLOAT16_COMPUTE_CAPABILITY = 8.0


def policy(precision: str, trains_depthwise: bool = False) -> str:
    """The Keras dtype policy for `params.precision`; for float32, the hardware is set to it.

    Args:
        precision: a policy's name, which is taken as it is, or `auto`: bfloat16 where the hardware
            has it (a GPU of compute capability 8 or more; a CPU with AMX-BF16 or AVX512-BF16),
            float16 on an older GPU, float32 else, and on a GPU that no driver of NVIDIA's knows.
        trains_depthwise: whether a network of depthwise convolutions is trained, whose gradients
            take 1.1 to 1.9 times as long in bfloat16 on a CPU: `auto` is float32 there.
    """
    chosen = automatic(trains_depthwise) if precision == "auto" else precision
    if chosen == "float32":
        backend.whole_float32()
    return chosen


def automatic(trains_depthwise: bool) -> str:
    """The policy that the hardware runs best."""
    if devices.gpus():
        capability = devices.lowest("compute_cap")
        if capability is None:
            return "float32"
        fast = capability >= BFLOAT16_COMPUTE_CAPABILITY
        return "mixed_bfloat16" if fast else "mixed_float16"
    fast = bool(BFLOAT16_CPU_FLAGS & cpu_flags())
    return "mixed_bfloat16" if fast and not trains_depthwise else "float32"


def cpu_flags(cpuinfo: Path = CPU_FLAGS_FILE) -> set[str]:
    """What the first processor can do, in Linux's names; empty where there is no such file."""
    if not cpuinfo.exists():
        return set()
    lines = cpuinfo.read_text().splitlines()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return set(flags.partition(":")[2].split())
