"""Bring blocks that only come close nearer to what they replace, the old block as teacher, without labels.

Block by block in the order in which they run, so that a later block is fitted to what reaches it behind those that are healed.
A block that is linear in its weights is solved: least squares by conjugate gradients (CGLS; Paige and Saunders, LSQR, ACM TOMS
1982). Others, and what is left, take some hundred steps of Adam. What comes no closer on samples held out is put back.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from npu_guard.base.errors import UsageError
from npu_guard.training import attach, compiled, resuming

HELD_OUT = 4
"""One sample in so many is held out of the fit, and tells how close the block comes."""
SOLVE = 40
"""Steps of conjugate gradients, after which least squares of this size are solved well enough for what follows."""
LINEAR = 1e-3
"""Curvature along a line of weights, relative to the change, below which a block counts as linear in them."""
Progress = Callable[[str, int, int], None]
Metric = Callable[[nn.Module], float]


@dataclass(slots=True)
class HealedBlock:
    """A block before and after, in dB of signal to noise on samples that were held out."""

    path: str
    before: float
    solved: float | None
    """After the closed form; None where the block is not linear in its weights."""
    after: float


@dataclass(slots=True)
class Healed:
    """What healing came to."""

    blocks: list[HealedBlock] = field(default_factory=list)
    metric: dict[str, float] = field(default_factory=dict)
    """The user's own figure: `original`, `before`, `after`."""


@dataclass(slots=True)
class Settings:
    """How much is done."""

    steps: int = 300
    batch: int = 64
    rate: float = 3e-3
    seed: int = 0
    progress: Progress = lambda what, done, total: None


Sample = tuple[list[Any], dict[str, Any], Tensor]
"""What reaches the block, and what the old one gives."""


def heal_blocks(
    model: nn.Module, original: nn.Module, data: Sequence[Any], paths: Sequence[str], settings: Settings, keep: Path | None = None
) -> list[HealedBlock]:
    """Heal the blocks at these paths, in the order in which they run; `keep` is a file by which an interrupted run goes on.

    `data` are inputs of the network: tensors, tuples or dicts, each with a batch. Raises UsageError for a block without a tensor.
    """
    network, teacher = attach.network_of(model), attach.network_of(original)
    with compiled.looked_through(network, attach.BEFORE), compiled.looked_through(teacher, attach.BEFORE):
        return _heal_blocks(network, teacher, data, paths, settings, keep)


def _heal_blocks(
    network: nn.Module, teacher: nn.Module, data: Sequence[Any], paths: Sequence[str], settings: Settings, keep: Path | None
) -> list[HealedBlock]:
    modes = [(m, m.training) for m in (*network.modules(), *teacher.modules())]
    done = resuming.resumed(network, keep, settings.seed)
    found = []
    try:
        network.eval()
        teacher.eval()
        ordered = _in_order(network, data[0], paths)
        for number, path in enumerate(ordered):
            settings.progress(f"Healing {path or 'the network'}", number, len(ordered))
            if path in done:
                found.append(HealedBlock(**done[path]))
                continue
            found.append(_heal(network, teacher, path, data, settings))
            if keep is not None:
                resuming.save(network, [asdict(block) for block in found], keep, settings.seed)
    finally:
        for module, training in modes:
            module.training = training
    return found


def approximate_paths(model: nn.Module) -> list[str]:
    """Paths of blocks that are in place and only come close."""
    network = attach.network_of(model)
    with compiled.looked_through(network, attach.BEFORE):
        return [path for path, m in network.named_modules() if not m.__dict__.get(attach.BEFORE, (None, None, True))[2]]


def call_with(model: nn.Module, item: Any) -> Any:
    """What the network gives for a tensor, a tuple of positional or a dict of named inputs."""
    if isinstance(item, Mapping):
        return model(**item)
    return model(*item) if isinstance(item, (tuple, list)) else model(item)


def _in_order(network: nn.Module, item: Any, paths: Iterable[str]) -> list[str]:
    order: list[str] = []
    wanted, known = list(paths), dict(network.named_modules())
    if unknown := [path for path in wanted if path not in known]:
        raise UsageError(f"heal: {type(network).__name__} has no module {unknown[0]!r}")
    hooks = [network.get_submodule(p).register_forward_hook(lambda *_, p=p: order.append(p)) for p in wanted]
    try:
        with torch.no_grad():
            call_with(network, item)
    except TypeError as error:
        raise UsageError(
            f"heal: {type(network).__name__} does not take the first of data ({str(error).splitlines()[0]}); "
            "each is a tensor, a tuple of positional inputs or a dict of named ones, without targets"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    return list(dict.fromkeys(order))


def _samples(network: nn.Module, teacher: nn.Module, path: str, data: Sequence[Any]) -> list[Sample]:
    """For each item, what reaches the block in the network as it is, and what the old block gives in the old network."""
    samples: list[Sample] = []
    for item in data:
        seen: list[tuple[Any, Any]] = []
        given: list[Any] = []

        def before(_: nn.Module, args: Any, kwargs: Any, seen: list[tuple[Any, Any]] = seen) -> None:
            seen.append(_detached((args, kwargs)))

        def after(_: nn.Module, _args: Any, result: Any, given: list[Any] = given) -> None:
            given.append(result)

        hooks = [
            network.get_submodule(path).register_forward_pre_hook(before, with_kwargs=True),
            teacher.get_submodule(path).register_forward_hook(after),
        ]
        try:
            with torch.no_grad():
                call_with(network, item)
                call_with(teacher, item)
        finally:
            for hook in hooks:
                hook.remove()
        if len(given) != 1 or not isinstance(given[0], Tensor):
            raise UsageError(
                f"{path or 'the network'}: its old block runs {len(given)} times or gives no single tensor, and is not healed"
            )
        samples.append((list(seen[0][0]), seen[0][1], given[0].detach().clone()))
    return samples


def _detached(arguments: Any) -> Any:
    return pytree.tree_map(lambda t: t.detach().clone() if isinstance(t, Tensor) else t, arguments)


def snr(block: nn.Module, samples: Sequence[Sample]) -> float:
    """Power of what the old block gives over that of the difference, in dB."""
    signal = noise = 0.0
    with torch.no_grad():
        for args, kwargs, wanted in samples:
            signal += float(wanted.double().pow(2).sum())
            noise += float((block(*args, **kwargs).double() - wanted.double()).pow(2).sum())
    return 10 * math.log10(max(signal, 1e-30) / max(noise, 1e-30 * max(signal, 1.0)))


def _heal(network: nn.Module, teacher: nn.Module, path: str, data: Sequence[Any], settings: Settings) -> HealedBlock:
    samples = _samples(network, teacher, path, data)
    held, fitted = samples[::HELD_OUT], [s for i, s in enumerate(samples) if i % HELD_OUT] or samples
    block = network.get_submodule(path)
    weights = [p for p in block.parameters() if p.requires_grad]
    before = best = snr(block, held)
    state = copy.deepcopy(block.state_dict())
    solved = None
    if weights and is_linear(block, weights, fitted[0]):
        solve(block, weights, fitted)
        solved = snr(block, held)
        best, state = _better(block, solved, best, state)
    if weights and settings.steps:
        _descend(block, weights, fitted, settings)
        best, state = _better(block, snr(block, held), best, state)
    return HealedBlock(path, before, solved, best)


def _better(block: nn.Module, now: float, best: float, state: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    if now > best:
        return now, copy.deepcopy(block.state_dict())
    block.load_state_dict(state)
    return best, state


def is_linear(block: nn.Module, weights: Sequence[Tensor], sample: Sample) -> bool:
    """Whether the result is affine in the weights, as seen along a random line through them."""
    args, kwargs, _ = sample
    generator = torch.Generator().manual_seed(0)
    line = [torch.randn(w.shape, generator=generator).to(w) * (w.detach().abs().mean() + 1e-3) for w in weights]
    points = []
    with torch.no_grad():
        for _ in range(3):
            points.append(block(*args, **kwargs))
            _move(weights, line, 1.0)
        _move(weights, line, -3.0)
    change = float((points[1] - points[0]).abs().max())
    return float((points[2] - 2 * points[1] + points[0]).abs().max()) <= LINEAR * change


def _move(weights: Sequence[Tensor], line: Sequence[Tensor], by: float) -> None:
    with torch.no_grad():
        for weight, direction in zip(weights, line, strict=True):
            weight.add_(direction, alpha=by)


def solve(block: nn.Module, weights: Sequence[Tensor], samples: Sequence[Sample]) -> None:
    """Least squares for the weights of a block that is affine in them, by conjugate gradients on the normal equations."""

    def backward(residuals: Sequence[Tensor]) -> list[Tensor]:
        total = [torch.zeros_like(w) for w in weights]
        for (args, kwargs, _), residual in zip(samples, residuals, strict=True):
            with torch.enable_grad():
                parts = torch.autograd.grad(block(*args, **kwargs), list(weights), residual, allow_unused=True)
            for sum_, part in zip(total, parts, strict=True):
                if part is not None:
                    sum_.add_(part)
        return total

    def outputs() -> list[Tensor]:
        with torch.no_grad():
            return [block(*args, **kwargs) for args, kwargs, _ in samples]

    base = outputs()
    residuals = [wanted - out for (_, _, wanted), out in zip(samples, base, strict=True)]
    gradient = backward(residuals)
    direction = [g.clone() for g in gradient]
    power = start = sum(float(g.pow(2).sum()) for g in gradient)
    for _ in range(SOLVE):
        if power <= 1e-12 * start or not power:
            return
        _move(weights, direction, 1.0)
        moved = outputs()
        _move(weights, direction, -1.0)
        along = [m - b for m, b in zip(moved, base, strict=True)]
        step = power / max(sum(float(a.pow(2).sum()) for a in along), 1e-30)
        _move(weights, direction, step)
        base = outputs()
        residuals = [wanted - out for (_, _, wanted), out in zip(samples, base, strict=True)]
        gradient = backward(residuals)
        now = sum(float(g.pow(2).sum()) for g in gradient)
        direction = [g + d * (now / power) for g, d in zip(gradient, direction, strict=True)]
        power = now


def _descend(block: nn.Module, weights: list[nn.Parameter], samples: Sequence[Sample], settings: Settings) -> None:
    """Adam on the squared difference, relative to the spread of what the old block gives."""
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.Adam(weights, settings.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    spread = float(torch.stack([w.var() for _, _, w in samples]).mean()) or 1.0
    frozen = [(m, m.training) for m in block.modules()]
    block.train()
    for module in block.modules():
        if "BatchNorm" in type(module).__name__ or "Drop" in type(module).__name__:
            module.eval()
    for _ in range(settings.steps):
        args, kwargs, wanted = samples[int(torch.randint(len(samples), (), generator=generator))]
        pick = torch.randperm(len(wanted), generator=generator)[: settings.batch].to(wanted.device)

        def some(t: Any, pick: Tensor = pick, size: int = len(wanted)) -> Any:
            return t[pick] if isinstance(t, Tensor) and t.dim() and len(t) == size else t

        with torch.enable_grad():
            loss = (block(*pytree.tree_map(some, args), **pytree.tree_map(some, kwargs)) - wanted[pick]).pow(2).mean() / spread
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()
    for module, training in frozen:
        module.training = training
