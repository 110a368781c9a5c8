"""Put blocks into a network in place, and take them out again.

A module that is replaced stays the same object: others may hold it, and its hooks stay. It gets another class, derived from the
block and from what it was, so that `isinstance` holds, and the block's parameters, buffers and children.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from npu_guard.base.errors import UsageError
from npu_guard.project.export import EXPORT_FORM
from npu_guard.training import compiled, files, fitting, loading, mixing, sizes
from npu_guard.training.construct import code_module, construct, fill
from npu_guard.training.files import Block, Manifest
from npu_guard.training.merging import Merging, let_merge

BEFORE = "_npu_guard_before"
"""Attribute of a module: its class and attributes before it became a block, and whether the block is exact."""
SHOWN = 5
"""Modules that a warning names."""
WRAPPERS = ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel", "AveragedModel")
"""Torch's classes that hold a network as `module`."""
_JOINED: dict[tuple[type[nn.Module], type[nn.Module]], type[nn.Module]] = {}
_RUNNING = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_HOOKS = ("_hooks", "_hooks_with_kwargs", "_hooks_always_called", "_pre_hooks", "_pre_hooks_with_kwargs")


def apply_folder(model: nn.Module, folder: Path) -> nn.Module:
    """Put the blocks of a folder into the network, changed in place and returned; where one does not fit, nothing changes.

    Where the blocks hold for one resolution only, the network raises ValueError for others from then on. It raises UsageError
    where weights of the network without the blocks are loaded.

    Raises UsageError where the network is another one.
    """
    manifest = files.read_manifest(folder)
    network = network_of(model)
    if not isinstance(network.__dict__.get(EXPORT_FORM), Merging | None):
        raise UsageError(
            f"{folder}: the network gets its blocks by swap_at_export already; npu_guard.torch.remove(model) undoes that"
        )
    with compiled.looked_through(network, BEFORE):
        expect_fit(network, manifest, folder)
        hooked = {path: m for path, m in network.named_modules() if any(m.__dict__.get(name) for name in _RUNNING)}
        others = mixing.others_in(network, manifest)
        attach(network, manifest, code_of(folder), weights_of(manifest, folder), str(folder))
    warn_of_edits(manifest, folder)
    _warn_of_hooks(network, hooked, str(folder))
    sizes.guard(network, manifest, str(folder))
    loading.guard(network, manifest, str(folder))
    mixing.guard(network, others, manifest, str(folder))
    return model


def attach(network: nn.Module, manifest: Manifest, code: ModuleType | None, weights: Mapping[str, Tensor], name: str) -> None:
    """Put the blocks in, the innermost first; all or none. Raises UsageError."""
    done: list[nn.Module] = []
    trainable = trainable_of(network)
    try:
        for block in manifest.blocks:
            module = network.get_submodule(block.path)
            made = construct(block.module, code, module if block.keeps else None)
            fill(made, _own(block, weights, manifest))
            _like(made, module, set(block.keeps))
            _freeze(made, module, block, trainable)
            become(module, made, exact=block.exact)
            done.append(module)
        let_merge(network, [merge for block in manifest.blocks for merge in block.merges])
    except Exception as error:
        for module in reversed(done):
            restore(module)
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"{name}: {block.path or 'the network'}: {block.module} cannot be put in ({what}); nothing was changed"
        ) from error


def expect_fit(network: nn.Module, manifest: Manifest, folder: Path) -> None:
    """Refuse a network that is not the one that the blocks were written for. Raises UsageError."""
    for block in manifest.blocks:
        where = block.path or "the network"
        try:
            module = network.get_submodule(block.path)
        except AttributeError:
            raise UsageError(
                f"{folder}: {type(network).__name__} has no module {where!r}; the blocks are for {manifest.network}"
            ) from None
        if BEFORE in module.__dict__:
            raise UsageError(f"{folder}: {where} has its block already; npu_guard.torch.remove(model) takes it out")
        if type(module).__name__ != block.replaces:
            raise UsageError(f"{folder}: {where} is a {type(module).__name__}, and its block replaces a {block.replaces}")
        if block.old and (other := fitting.difference(block.old, module, block.path)):
            raise UsageError(f"{folder}: {other}; write the blocks again for this network")


def remove(model: nn.Module) -> nn.Module:
    """Take all blocks out again: the old ones come back with the weights that they had."""
    for module in [m for m in model.modules() if BEFORE in m.__dict__]:
        restore(module)
    for module in model.modules():
        module.__dict__.pop(EXPORT_FORM, None)
    sizes.unguard(model)
    loading.unguard(model)
    mixing.unguard(model)
    return model


def become(module: nn.Module, made: nn.Module, *, exact: bool = True) -> None:
    """Turn a module into a block, and keep what it was."""
    old = type(module)
    containers = {k: dict(v) if isinstance(v, dict) else v for k, v in module.__dict__.items()}
    kept = {k: v for k, v in module.__dict__.items() if k.endswith(_HOOKS) or k not in made.__dict__}
    kept |= {k: type(v)((i, h) for i, h in v.items() if not is_parametrizing(h)) for k, v in kept.items() if k.endswith("_hooks")}
    code = vars(type(made)).get("__module__", "")
    own = code.startswith("npu_guard_blocks_")
    module.__class__ = _joined(type(made), old) if own else type(made)
    module.__dict__.update({**made.__dict__, **kept, "training": module.training, BEFORE: (old, containers, exact)})


def restore(module: nn.Module) -> None:
    """Turn a block back into what it was."""
    old, containers, _ = module.__dict__[BEFORE]
    device = next((t.device for t in (*module.parameters(), *module.buffers())), None)
    hooks = {k: v for k, v in module.__dict__.items() if k.endswith(_HOOKS)}
    for name in [k for k in hooks if k.endswith("_hooks")]:
        own = {i: h for i, h in containers.get(name, {}).items() if is_parametrizing(h)}
        hooks[name] = type(hooks[name])({**own, **hooks[name]})
    training = module.training
    module.__class__ = old
    module.__dict__.clear()
    module.__dict__.update({**containers, **hooks})
    module.train(training)
    if device is not None:
        module.to(device)


def is_parametrizing(hook: Any) -> bool:
    """Whether a hook computes a weight anew at each call, as torch's older spectral_norm and pruning do: none of a block."""
    return type(getattr(hook, "hook", hook)).__module__.startswith("torch.nn.utils.")


def network_of(model: nn.Module) -> nn.Module:
    """The network inside of wrappers: DataParallel, DistributedDataParallel, AveragedModel, what torch.compile returns."""
    while True:
        inner = model.__dict__.get("_modules", {})
        name = type(model).__name__
        if name in WRAPPERS and "module" in inner:
            model = inner["module"]
        elif (held := compiled.inside(model)) is not None:
            model = held
        else:
            return model


def warn_of_edits(manifest: Manifest, folder: Path) -> None:
    """Say that the code is not what was proved, where it is not."""
    if files.is_edited(manifest, folder):
        warnings.warn(
            f"{folder / files.BLOCKS}: was edited, and {files.README} tells what is known of what was written; delete the line "
            f'"{files.BLOCKS}" under "digests" in {files.NAME} to hear no more of it',
            stacklevel=4,
        )


def _own(block: Block, weights: Mapping[str, Tensor], manifest: Manifest) -> dict[str, Tensor]:
    prefix = f"{block.path}." if block.path else ""
    return {entry.name: weights[prefix + entry.name] for entry in block.tensors}


def _like(made: nn.Module, old: nn.Module, kept: set[str]) -> None:
    """Device, type and mode of the old module."""
    tensors = [t for t in (*old.parameters(), *old.buffers()) if t.is_floating_point()]
    for name, child in made._modules.items():
        if name not in kept and child is not None:
            child.train(old.training)
            if tensors:
                child.to(tensors[0].device, tensors[0].dtype)
    own: tuple[dict[str, Any], ...] = (made._parameters, made._buffers)
    for held in own:
        for name, tensor in held.items():
            if tensor is not None and tensors:
                kind = tensors[0].dtype if tensor.is_floating_point() else tensor.dtype
                like = tensor.detach().to(tensors[0].device, kind)  # and no `data` of it, which does not go to meta
                held[name] = nn.Parameter(like, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else like


def trainable_of(network: nn.Module) -> dict[str, bool]:
    """Whether each parameter is trained, by name; those that a norm could have and does not are not."""
    norms = [path for path, m in network.named_modules() if isinstance(m, _BatchNorm) and m.weight is None]
    lacking = {f"{path}.{name}" if path else name: False for path in norms for name in ("weight", "bias")}
    return lacking | {name: p.requires_grad for name, p in network.named_parameters(remove_duplicate=False)}


def mixed_of(manifest: Manifest, trainable: Mapping[str, bool]) -> list[str]:
    """A sentence for each new parameter that is trained, though some of what it is computed from is not."""
    found = []
    for block in manifest.blocks:
        for entry in block.tensors:
            frozen = [s for s in entry.sources if trainable.get(s) is False]
            if frozen and any(trainable.get(s) for s in entry.sources):
                name = f"{block.path}.{entry.name}" if block.path else entry.name
                found.append(f"{name} is trained, though it is computed from {', '.join(frozen)} as well, which is frozen")
    return found


def _freeze(made: nn.Module, old: nn.Module, block: Block, trainable: Mapping[str, bool]) -> None:
    """Freeze new parameters whose sources are all frozen; where those are no parameters, as folded ones, the old module tells."""
    whole = any(True for _ in (*old.parameters(), *old.buffers())) and not any(p.requires_grad for p in old.parameters())
    own = dict(made.named_parameters())
    for entry in block.tensors:
        known = [trainable[source] for source in entry.sources if source in trainable]
        if entry.name in own and not (any(known) if known else entry.trained and not whole):
            own[entry.name].requires_grad_(False)


def _warn_of_hooks(network: nn.Module, hooked: Mapping[str, nn.Module], folder: str) -> None:
    """Name the modules whose hooks do not run any more."""
    here = set(network.modules())
    if gone := [f"{path} ({type(m).__name__})" for path, m in hooked.items() if m not in here]:
        more = f" and {len(gone) - SHOWN} more" if len(gone) > SHOWN else ""
        warnings.warn(
            f"{folder}: hooks do not run any more on {', '.join(gone[:SHOWN])}{more}, whose place blocks have taken",
            stacklevel=4,
        )


def _joined(block: type[nn.Module], old: type[nn.Module]) -> type[nn.Module]:
    """A class that computes what the block does and is one of the old class as well; the same one for the same two."""
    if (known := _JOINED.get((block, old))) is not None:
        return known
    own = not old.__module__.startswith("torch.nn.") and not issubclass(old, block)
    bases = (block, old) if own else (block,)

    def reduce(self: nn.Module, protocol: Any) -> Any:
        text = sys.modules[block.__module__].__dict__["__npu_guard_source__"]
        return rebuilt, (text, block.__name__, old), self.__dict__

    # What the old class says of attributes that are not there any more does not count.
    plain = {name: getattr(nn.Module, name) for name in ("extra_repr", "_save_to_state_dict", "_load_from_state_dict")}
    made = type(
        block.__name__, bases, plain | {"__reduce_ex__": reduce, "__module__": block.__module__, "__doc__": block.__doc__}
    )
    return _JOINED.setdefault((block, old), made)


def rebuilt(text: str, name: str, old: type[nn.Module]) -> nn.Module:
    """An empty module of a block's class, for copies and pickles."""
    kind = _joined(getattr(code_module(text), name), old)
    return kind.__new__(kind)


def code_of(folder: Path) -> ModuleType:
    """The module that blocks.py is. Raises UsageError."""
    path = folder / files.BLOCKS
    try:
        return code_module(path.read_text(encoding="utf-8"), str(path))
    except Exception as error:  # whatever the user's edited code raises where it is run
        raise UsageError(f"{path}: cannot be imported ({type(error).__name__}: {error})") from error


def weights_of(manifest: Manifest, folder: Path) -> dict[str, Tensor]:
    """The tensors of all blocks. Raises UsageError."""
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise UsageError("blocks with weights need safetensors: pip install 'npu-guard[torch]'") from error
    try:
        weights = load_file(folder / files.WEIGHTS)
    except Exception as error:  # safetensors has an exception of its own
        raise UsageError(f"{folder / files.WEIGHTS}: cannot be read ({error})") from error
    if odd := [name for name, tensor in weights.items() if tensor.is_floating_point() and tensor.isnan().any()]:
        raise UsageError(f"{folder / files.WEIGHTS}: {odd[0]} has elements that are no numbers; write the folder again")
    files.expect_weights(manifest, folder)
    return weights


def tensors_of(network: nn.Module, block: Block) -> dict[str, Tensor]:
    """The tensors of a block that is in place, by name."""
    module = network.get_submodule(block.path)
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {entry.name: state[entry.name] for entry in block.tensors}
