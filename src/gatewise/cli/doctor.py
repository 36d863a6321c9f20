"""``gatewise doctor``."""


def command() -> None:
    """Show versions, processor features, devices and engines.

    For an engine that is not available, shows the reason.
    """
    import os
    import platform
    from importlib import import_module

    import torch

    from gatewise import __version__
    from gatewise.bench.harness import processor_name
    from gatewise.cli.output import write
    from gatewise.data.token_cache import cache_folder
    from gatewise.engines.registry import NAMES
    from gatewise.training.precision import has_fast_bf16, has_fp16

    cpu = torch.device("cpu")
    lines = {
        "gatewise": __version__,
        "Python": f"{platform.python_version()} on {platform.platform()}",
        **{name: str(import_module(name).__version__) for name in ("torch", "numpy", "safetensors", "tokenizers")},
        "processor": f"{processor_name()}, {os.cpu_count()} cores, PyTorch uses {torch.get_num_threads()} threads",
        "instructions": f"{torch.backends.cpu.get_cpu_capability()}; bf16 arithmetic: {_yes(has_fast_bf16(cpu))}; "
        f"fp16 arithmetic: {_yes(has_fp16(cpu))}",
        "GPU": ", ".join(torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())) or "none",
        **{f"engine {name}": _availability(name) for name in NAMES[1:]},
        "precisions": "fp32, bf16" + (", fp16" if has_fp16(cpu) or torch.cuda.is_available() else "") + _high(),
        "cache folder": str(cache_folder()),
    }
    for name, value in lines.items():
        write(f"{name:<17} {value}")


def _availability(engine: str) -> str:
    from gatewise.engines.native.layer import NOT_COMPUTED
    from gatewise.engines.native.module import instructions
    from gatewise.engines.registry import engine_named, why_not

    if reason := why_not(engine):
        return f"not available: {reason}"
    text = "available" + " (selected by auto)" * (engine == engine_named("auto").name)
    if engine == "native":
        chosen, all_there_are = instructions()
        text += f"; instruction set: {chosen}, of {', '.join(all_there_are)} (set GATEWISE_INSTRUCTIONS=NAME to change)"
        text += f"; with auto, falls back to the torch engine for: {NOT_COMPUTED}"
    return text


def _high() -> str:
    from gatewise.engines import why_not
    from gatewise.training.precision import has_fast_high

    if why_not("native"):
        return "; high is not available: it needs the native engine"
    return ", high" + ("" if has_fast_high() else " (computed in fp32: this processor has no AMX)")


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
