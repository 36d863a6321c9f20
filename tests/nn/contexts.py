"""What PyTorch lets one do with a module, each a function of it that returns tensors: long, since it is one table.

From ``test_modules.py``, ``test_nn.py``, ``functorch/test_eager_transforms.py``, ``functorch/test_vmap.py``,
``test_proxy_tensor.py``, ``test_fake_tensor.py``, ``test_autograd.py``, ``nn/test_parametrization.py``,
``nn/test_pruning.py``. ``mapped`` is ``torch.vmap``, or ``in_turn`` for PyTorch's recurrent modules, which it cannot
map.
"""

import copy
import io
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, stack_module_state, vjp
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parametrizations, parametrize, prune
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

Context = Callable[[nn.Module, Any], Any]
CONTEXTS: dict[str, Context] = {}
"""By name."""


def context(function: Context) -> Context:
    """Add it to the table."""
    CONTEXTS[function.__name__] = function
    return function


def drawn(*shape: int, seed: int = 1) -> Tensor:
    """Draw numbers in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


X = drawn(2, 2, 3)


def in_turn(function: Callable[..., Any], in_dims: Any = 0) -> Callable[..., Any]:
    """Do what ``torch.vmap`` does, one after the other."""

    def call(*given: Any) -> Any:
        dims = in_dims if isinstance(in_dims, tuple) else (in_dims,) * len(given)
        pairs = list(zip(given, dims, strict=True))
        sizes = {len(t.movedim(d, 0)) for g, d in pairs if d is not None for t in pytree.tree_leaves(g)}
        results = []
        for k in range(*sizes):
            rows = [g if d is None else pytree.tree_map(lambda t, d=d, k=k: t.select(d, k), g) for g, d in pairs]
            results.append(function(*rows))
        return pytree.tree_map(lambda *each: torch.stack(each), *results)

    return call


def parameters(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in module.named_parameters()}


def outputs(module: nn.Module, weights: dict[str, Tensor], *given: Any, **kwargs: Any) -> Any:
    return functional_call(module, weights, given, kwargs)


def loss(module: nn.Module, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    y, after = outputs(module, weights, x)
    return (y**2).sum() + sum(part.sin().sum() for part in pytree.tree_leaves(after))


def trained(module: nn.Module, x: Tensor = X, run: Callable[..., Any] | None = None) -> list[Tensor | None]:
    """Outputs, and the gradients of x and of every parameter."""
    module.zero_grad()
    leaf = x.clone().requires_grad_()
    y, after = (run or module)(leaf)
    ((y**2).sum() + sum(part.sin().sum() for part in pytree.tree_leaves(after))).backward()
    return [y.detach(), leaf.grad, *(p.grad for p in module.parameters())]


# torch.func


@context
def func_grad(module: nn.Module, mapped: Any) -> Any:
    return grad(lambda w, x: loss(module, w, x), argnums=(0, 1))(parameters(module), X)


@context
def func_vjp(module: nn.Module, mapped: Any) -> Any:
    y, back = vjp(lambda w, x: outputs(module, w, x)[0], parameters(module), X)
    return y, back(torch.cos(y))


@context
def func_jvp(module: nn.Module, mapped: Any) -> Any:
    weights = parameters(module)
    return jvp(lambda w, x: outputs(module, w, x)[0], (weights, X), (pytree.tree_map(torch.cos, weights), X.cos()))


@context
def func_jacrev(module: nn.Module, mapped: Any) -> Any:
    return jacrev(lambda w: outputs(module, w, X)[0])(parameters(module))


@context
def func_jacfwd(module: nn.Module, mapped: Any) -> Any:
    return jacfwd(lambda x: module(x)[0])(X)


@context
def func_hessian(module: nn.Module, mapped: Any) -> Any:
    return hessian(lambda x: loss(module, parameters(module), x))(X[:, :1])


@context
def func_linearize(module: nn.Module, mapped: Any) -> Any:
    if mapped is in_turn:  # PyTorch's modules cannot be linearized
        return jvp(lambda x: module(x)[0], (X,), (X.cos(),))
    y, push = linearize(lambda x: module(x)[0], X)
    return y, push(X.cos())


@context
def func_functionalize(module: nn.Module, mapped: Any) -> Any:
    return torch.func.functionalize(lambda x: outputs(module, parameters(module), x))(X)


@context
def vmap_over_inputs(module: nn.Module, mapped: Any) -> Any:
    return mapped(lambda x: module(x))(torch.stack([X, X.cos(), X.sin()]))


@context
def vmap_over_rows_without_a_batch(module: nn.Module, mapped: Any) -> Any:
    return mapped(lambda x: module(x)[0], in_dims=1)(X)


@context
def vmap_over_states(module: nn.Module, mapped: Any) -> Any:
    state = drawn(2, 1, 2, 2)
    return mapped(lambda h: module(X, (h, h.cos()) if module.mode == "LSTM" else h))(state)


@context
def vmap_over_an_ensemble(module: nn.Module, mapped: Any) -> Any:
    other = copy.deepcopy(module)
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(0.5)
    weights, _ = stack_module_state([module, other])
    return mapped(lambda w, x: outputs(module, w, x), in_dims=(0, None))(weights, X)


@context
def vmap_of_grad_for_each_sample(module: nn.Module, mapped: Any) -> Any:
    return mapped(grad(lambda w, x: loss(module, w, x[:, None])), in_dims=(None, 1))(parameters(module), X)


# Autograd


@context
def gradients_of_a_batch_of_directions(module: nn.Module, mapped: Any) -> Any:
    y, ways = module(X)[0], drawn(2, 2, 2, 2)
    wanted = list(module.parameters())
    if mapped is in_turn:
        return mapped(lambda way: tuple(torch.autograd.grad(y, wanted, way, retain_graph=True)))(ways)
    return torch.autograd.grad(y, wanted, ways, is_grads_batched=True)


@context
def vmap_of_autograd_grad(module: nn.Module, mapped: Any) -> Any:
    y, wanted = module(X)[0], list(module.parameters())
    return mapped(lambda way: tuple(torch.autograd.grad(y, wanted, way, retain_graph=True)))(drawn(2, 2, 2, 2))


@context
def functional_jacobian(module: nn.Module, mapped: Any) -> Any:
    return torch.autograd.functional.jacobian(lambda x: module(x)[0], X, vectorize=mapped is torch.vmap)


@context
def functional_jacobian_forward(module: nn.Module, mapped: Any) -> Any:
    ways = {"vectorize": True, "strategy": "forward-mode"} if mapped is torch.vmap else {}
    return torch.autograd.functional.jacobian(lambda x: module(x)[0], X, **ways)


@context
def functional_hvp(module: nn.Module, mapped: Any) -> Any:
    return torch.autograd.functional.hvp(lambda x: (module(x)[0] ** 2).sum(), X, X.cos())


@context
def dual_numbers(module: nn.Module, mapped: Any) -> Any:
    with forward_ad.dual_level():
        return tuple(forward_ad.unpack_dual(module(forward_ad.make_dual(X, X.cos()))[0]))


@context
def dual_numbers_without_gradients(module: nn.Module, mapped: Any) -> Any:
    with torch.no_grad():
        return dual_numbers(module, mapped)


@context
def backward_twice_through_one_graph(module: nn.Module, mapped: Any) -> Any:
    module.zero_grad()
    y = module(X)[0]
    y.sum().backward(retain_graph=True)
    (y**2).sum().backward()
    return [p.grad for p in module.parameters()]


@context
def double_backward_with_the_graph_kept(module: nn.Module, mapped: Any) -> Any:
    y, wanted = module(X)[0], list(module.parameters())
    first = torch.autograd.grad((y**2).sum(), wanted, create_graph=True)
    plain = torch.autograd.grad((y**2).sum(), wanted, retain_graph=True)
    again = torch.autograd.grad(sum((g**2).sum() for g in first), wanted)
    return [*first, *plain, *again]


@context
def checkpoint_reentrant(module: nn.Module, mapped: Any) -> Any:
    return trained(module, run=lambda x: checkpoint(module, x, use_reentrant=True))


@context
def checkpoint_not_reentrant(module: nn.Module, mapped: Any) -> Any:
    return trained(module, run=lambda x: checkpoint(module, x, use_reentrant=False))


@context
def saved_tensors_elsewhere(module: nn.Module, mapped: Any) -> Any:
    with torch.autograd.graph.save_on_cpu():
        return trained(module)


@context
def saved_tensors_packed_as_bytes(module: nn.Module, mapped: Any) -> Any:
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t.clone()):
        return trained(module)


@context
def anomaly_mode(module: nn.Module, mapped: Any) -> Any:
    with torch.autograd.detect_anomaly(check_nan=True):
        return trained(module)


@context
def multithreading_off(module: nn.Module, mapped: Any) -> Any:
    with torch.autograd.set_multithreading_enabled(False):
        return trained(module)


@context
def inference_mode(module: nn.Module, mapped: Any) -> Any:
    with torch.inference_mode():
        return [t.clone() for t in pytree.tree_leaves(module(X))]


@context
def inputs_of_inference_mode(module: nn.Module, mapped: Any) -> Any:
    with torch.inference_mode():
        x = X.clone()
    with torch.no_grad():
        return module(x)


@context
def only_some_require_gradients(module: nn.Module, mapped: Any) -> Any:
    module.requires_grad_(False)
    module.bias_hh_l0.requires_grad_()
    return torch.autograd.grad((module(X)[0] ** 2).sum(), module.bias_hh_l0)


@context
def weights_that_are_no_leaves(module: nn.Module, mapped: Any) -> Any:
    factor = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    weights = {name: p * factor for name, p in parameters(module).items()}
    return torch.autograd.grad(loss(module, weights, X), factor)


@context
def several_threads(module: nn.Module, mapped: Any) -> Any:
    with ThreadPoolExecutor(3) as pool:
        return [y for y, _ in pool.map(module, [X, X.cos(), X.sin()])]


# Modes, and tensors of other kinds


@context
def make_fx_of_a_call(module: nn.Module, mapped: Any) -> Any:
    with torch.no_grad():
        return make_fx(lambda x: module(x))(X)(X.cos())


@context
def make_fx_of_a_backward(module: nn.Module, mapped: Any) -> Any:
    def gradients(x: Tensor) -> Any:
        return torch.autograd.grad((module(x)[0] ** 2).sum(), [x, *module.parameters()])

    return make_fx(gradients)(X.clone().requires_grad_())(X.cos().requires_grad_())


@context
def make_fx_on_fake_tensors(module: nn.Module, mapped: Any) -> Any:
    return make_fx(lambda w, x: outputs(module, w, x), tracing_mode="fake")(parameters(module), X)(
        pytree.tree_map(torch.cos, parameters(module)), X.cos()
    )


@context
def make_fx_of_grad(module: nn.Module, mapped: Any) -> Any:
    traced = make_fx(grad(lambda w, x: loss(module, w, x)))(parameters(module), X)
    return traced(pytree.tree_map(torch.cos, parameters(module)), X.cos())


@context
def below_a_dispatch_mode(module: nn.Module, mapped: Any) -> Any:
    class Watched(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return func(*args, **(kwargs or {}))

    with Watched():
        return trained(module)


@context
def below_a_counter_of_operations(module: nn.Module, mapped: Any) -> Any:
    with FlopCounterMode(display=False):
        return trained(module)


@context
def below_a_function_mode(module: nn.Module, mapped: Any) -> Any:
    class Watched(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return func(*args, **(kwargs or {}))

    with Watched():
        return trained(module)


class Marked(Tensor):
    """A subclass that passes all on."""


@context
def a_subclass_of_tensor(module: nn.Module, mapped: Any) -> Any:
    y = module(X.as_subclass(Marked))[0]
    assert type(y) is Marked
    return y.as_subclass(Tensor)


@context
def another_default_device(module: nn.Module, mapped: Any) -> Any:
    torch.set_default_device("meta")
    try:
        return trained(module)
    finally:
        torch.set_default_device(None)


@context
def another_default_dtype(module: nn.Module, mapped: Any) -> Any:
    torch.set_default_dtype(torch.float16)
    try:
        return trained(module)
    finally:
        torch.set_default_dtype(torch.float32)


@context
def deterministic_algorithms(module: nn.Module, mapped: Any) -> Any:
    torch.use_deterministic_algorithms(True)
    try:
        return trained(module)
    finally:
        torch.use_deterministic_algorithms(False)


# What is done to a module


@context
def a_deep_copy(module: nn.Module, mapped: Any) -> Any:
    return trained(copy.deepcopy(module))


@context
def pickled(module: nn.Module, mapped: Any) -> Any:
    return trained(pickle.loads(pickle.dumps(module)))


@context
def a_saved_state(module: nn.Module, mapped: Any) -> Any:
    file = io.BytesIO()
    torch.save({"after": module(X)[1]}, file)
    file.seek(0)
    after = torch.load(file, weights_only=True)["after"]
    return module(X, after if module.mode == "LSTM" else pytree.tree_leaves(after)[0])


@context
def shared_memory(module: nn.Module, mapped: Any) -> Any:
    return trained(module.share_memory())


@context
def converted(module: nn.Module, mapped: Any) -> Any:
    return trained(module.float().double().to(torch.float64))


@context
def averaged(module: nn.Module, mapped: Any) -> Any:
    mean = torch.optim.swa_utils.AveragedModel(module)
    mean.update_parameters(module)
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(0.5)
    mean.update_parameters(module)
    return mean(X)


@context
def data_parallel(module: nn.Module, mapped: Any) -> Any:
    return trained(module, run=nn.DataParallel(module))


@context
def hooks(module: nn.Module, mapped: Any) -> Any:
    seen: list[Tensor] = []
    module.register_forward_pre_hook(lambda _, given: (given[0] * 2,))
    module.register_forward_hook(lambda _, given, result: (result[0] * 3, result[1]))
    module.register_full_backward_pre_hook(lambda _, upstream: seen.extend(upstream[:1]))
    module.register_full_backward_hook(lambda _, dgiven, upstream: seen.extend((dgiven[0], upstream[0])))
    leaf = X.clone().requires_grad_()
    (module(leaf)[0] ** 2).sum().backward()
    assert len(seen) == 3
    return [*seen, leaf.grad, *(p.grad for p in module.parameters())]


@context
def hooks_of_parameters(module: nn.Module, mapped: Any) -> Any:
    module.weight_hh_l0.register_hook(lambda d: d * 2)
    module.weight_ih_l0.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", p.grad * 3))
    return trained(module)


@context
def pruned(module: nn.Module, mapped: Any) -> Any:
    prune.l1_unstructured(module, "weight_hh_l0", 0.5)
    return module(X)[0], torch.autograd.grad(module(X)[0].sum(), module.weight_hh_l0_orig)


def with_a_weight(change: Callable[[nn.Module], Any], ours: Callable[[nn.Module], Any]) -> Context:
    """PyTorch's modules do not see a parametrized weight; they are given the numbers that it stands for."""

    def compared(module: nn.Module, mapped: Any) -> Any:
        torch.manual_seed(2)
        if mapped is torch.vmap:
            ours(module)
            return module(X)
        held = nn.Module()
        held.weight_hh_l0 = nn.Parameter(module.weight_hh_l0.detach().clone())
        change(held)
        return outputs(module, parameters(module) | {"weight_hh_l0": held.weight_hh_l0}, X)

    return compared


class Halved(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / 2


for name, change in {
    "parametrized": lambda held: parametrize.register_parametrization(held, "weight_hh_l0", Halved()),
    "weight_norm": lambda held: parametrizations.weight_norm(held, "weight_hh_l0"),
    "spectral_norm": lambda held: parametrizations.spectral_norm(held, "weight_hh_l0"),
}.items():
    CONTEXTS[name] = with_a_weight(change, change)
