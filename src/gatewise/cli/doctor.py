"""``gatewise doctor``."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


def command() -> None:
    """Show versions, devices, engines and file formats.

    For an engine that is not available or a format whose exports cannot be verified, shows the reason.
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
    from gatewise.interchange.formats import FORMATS
    from gatewise.training.precision import has_fast_bf16, has_fp16

    cpu = torch.device("cpu")
    devices = [cpu, *(torch.device("cuda", k) for k in range(torch.cuda.device_count()))]
    lines = {
        "gatewise": __version__,
        "Python": f"{platform.python_version()} on {platform.platform()}",
        **{name: str(import_module(name).__version__) for name in ("torch", "numpy", "safetensors", "tokenizers")},
        "processor": f"{processor_name()}, {os.cpu_count()} cores, PyTorch uses {torch.get_num_threads()} threads",
        "instructions": f"{torch.backends.cpu.get_cpu_capability()}; bf16 arithmetic: {_yes(has_fast_bf16(cpu))}; "
        f"fp16 arithmetic: {_yes(has_fp16(cpu))}",
        **(dict(map(_gpu, range(torch.cuda.device_count()))) or {"GPU": "none"}),
        **{f"engine {name}": _availability(name) for name in NAMES[1:]},
        "precisions": "fp32, bf16" + (", fp16" if has_fp16(cpu) or torch.cuda.is_available() else "") + _high(devices),
        **{f"format {name}": _format(name) for name in FORMATS},
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


def _format(framework: str) -> str:
    from gatewise.interchange.formats import WRITTEN_ONLY, why_unreadable, why_unverified

    if reason := why_unreadable(framework):
        return f"not available: {reason}"
    reason = why_unverified(framework)
    able = "exports" if framework in WRITTEN_ONLY else "imports and exports"
    return f"{able}; " + (f"exports are not verified: {reason}" if reason else "exports are verified")


def _high(devices: "Sequence[torch.device]") -> str:
    from gatewise.engines import engine_named, why_not

    engines = {device: engine_named("auto", device) for device in devices}
    able = [device for device, engine in engines.items() if engine.has_high(device)]
    if not able:
        return f"; high is not available: it needs the native engine or a GPU ({why_not('native')})"
    if any(engines[device].fast_high(device) for device in able):
        return ", high"
    return ", high (computed in fp32: no processor with AMX, no GPU with TF32)"


def _gpu(index: int) -> tuple[str, str]:
    """Return the title of a GPU's line, and what it is and can do."""
    import torch

    from gatewise.training.precision import has_fast_bf16, has_fast_high, has_fp16

    device = torch.device("cuda", index)
    facts = torch.cuda.get_device_properties(device)
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    reason = _why_no_capture(device)
    return f"GPU {index}", (
        f"{facts.name}, {facts.total_memory / 2**30:.1f} GiB, compute capability {facts.major}.{facts.minor}, "
        f"cuDNN {cudnn or 'none'}; TF32 (high): {_yes(has_fast_high(device))}; bf16: {_yes(has_fast_bf16(device))}; "
        f"fp16: {_yes(has_fp16(device))}; CUDA graphs: {f'no, {reason}' if reason else 'yes'}"
    )


def _why_no_capture(device: "torch.device") -> str | None:
    """Return the reason why a CUDA graph cannot be captured, or None: a tiny one was."""
    import torch

    try:
        with torch.cuda.device(device):
            x, graph = torch.zeros(8, device=device).add_(1), torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=torch.cuda.Stream(device)):  # type: ignore[no-untyped-call]
                x.add_(1)
            graph.replay()
            found = x.tolist()
    except RuntimeError as problem:
        return str(problem).partition("\n")[0]
    return None if found == [2.0] * 8 else f"a graph that adds 1 to 1 gave {found[0]}"


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"
