"""The folder that a fix in PyTorch is: blocks.py, weights.safetensors, manifest.json, README.md, npu.diff, plan.toml."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from npu_guard.base.installation import VERSION
from npu_guard.fixing import catalog
from npu_guard.fixing.plan import plan_text
from npu_guard.results.proof import LABELS
from npu_guard.rewriting import roles
from npu_guard.training import files, fitting
from npu_guard.training.calls import record
from npu_guard.training.files import Block, Example, Manifest, Merge, Refused, TensorEntry
from npu_guard.training.landing import Landing, label_of
from npu_guard.training.layout import module_text
from npu_guard.training.mixing import digest_of
from npu_guard.training.places import Place, reasons_of, several
from npu_guard.training.source_diff import SourceDiff

README = """\
# {network} for {profile}

npu-guard {version} wrote this folder. `blocks.py` holds the modules that fit the device, `weights.safetensors` their weights,
computed from those of the network, and `manifest.json` which module each of them takes the place of.

```python
import npu_guard.torch

model = npu_guard.torch.apply(model, "{folder}/")  # before the optimizer is made; model stays the same object
```

`npu_guard.torch.remove(model)` takes them out again, and `npu_guard.torch.convert(state_dict, model, "{folder}/")` makes a
checkpoint of the old network one of the new. {diff}

| place | was | is | by | in eval mode |
|---|---|---|---|---|
{rows}

{losses}What was seen when this was written:

{proof}
"""


def manifest_of(landing: Landing, profile: str, places: Sequence[Place] | None = None, resolution: str = "untested") -> Manifest:
    """What `manifest.json` says, of some places or of all."""
    places = landing.plan.places if places is None else places
    blocks = [_block(place, landing, places) for place in places]
    refused = landing.plan.refused
    pairs = zip(refused, reasons_of(refused), strict=True)
    return Manifest(
        version=files.VERSION,
        npu_guard=VERSION,
        network=type(landing.model).__name__,
        profile=profile,
        inputs=tuple(Example(n, tuple(t.shape), str(t.dtype).removeprefix("torch.")) for n, t in landing.inputs.items()),
        resolution=resolution,
        blocks=tuple(blocks),
        refused=tuple(Refused(tuple(r.substitutions), reason) for r, reason in pairs),
    )


def _block(place: Place, landing: Landing, places: Sequence[Place]) -> Block:
    exact, label = label_of(place, landing.report)
    written = place.written
    tensors = tuple(
        TensorEntry(
            name, tuple(p.array.shape), p.trained, p.role.sources, p.role.padding,
            masked=bool(p.trained and p.role.kind == roles.TRAINED and p.role.structure),
        )
        for name, p in written.state.items()
    )  # fmt: skip
    old = landing.model.get_submodule(place.path)
    replaces = type(old).__name__
    kind = written.constructor or written.name
    return Block(
        place.path, place.kind, kind, replaces, tuple(place.substitutions), exact, label, tuple(written.kept), tuple(place.lost),
        tensors, digest_of(old, tuple(written.kept)), fitting.described(old), tuple(_merges(place, landing, places)),
    )  # fmt: skip


def _merges(place: Place, landing: Landing, places: Sequence[Place]) -> Iterator[Merge]:
    """Norms behind sums of convolutions of the place, wherever they are; a norm that nothing has written anew is where it was."""

    def full(at: Place, name: str) -> str:
        return f"{at.path}.{name}" if at.path else name

    mine = place.written.attributes
    for path, one in landing.plan.sums.items():
        if place.written.constructor or not all(output in mine for output in one.outputs):
            continue
        norm = next((full(p, p.written.attributes[path]) for p in places if path in p.written.norms), path)
        weights = dict.fromkeys(full(place, mine[output]) for output in one.outputs)
        yield Merge(norm, tuple(weights), full(place, mine[one.biased]))


def describe(landing: Landing) -> None:
    """Write the docstring of each class: what it replaces and where, by what algebra, and what is known."""
    known = {s.name: s for s in catalog.substitutions()}
    for places in _by_class(landing):
        labels = {label_of(place, landing.report)[1] for place in places}
        label = max(labels, key=LABELS.index) if all(labels) else ""
        names = dict.fromkeys(name for place in places for name in place.substitutions)
        algebra = [f"{n}: {known[n].manual().splitlines()[0]}" for n in names if n in known]
        kinds = dict.fromkeys(type(landing.model.get_submodule(p.path)).__name__ for p in places)
        where = several([f"`{p.path}`" if p.path else "the network" for p in places])
        first = f"Takes the place of {' and '.join(kinds)} at {where}{f' (in eval mode {label})' if label else ''}."
        for place in places:
            place.written.doc = "\n\n".join([first, *algebra])


def describe_shapes(landing: Landing, patched: nn.Module) -> None:
    """Add to each docstring what the block takes and gives in the patched network, where channels may be more than they were."""
    calls = {call.path: call for call in record(patched, landing.inputs)}
    for places in _by_class(landing):
        seen = [calls[p.path] for p in places if p.path in calls]
        if shapes := list(dict.fromkeys(f"{_shapes(c.arguments)} to {_shapes(c.results)}" for c in seen)):
            for place in places:
                place.written.doc += f"\n\nShapes: {several(shapes)} on the example."


def _by_class(landing: Landing) -> Iterable[list[Place]]:
    """Places in groups that have one class of blocks.py."""
    found: dict[str, list[Place]] = {}
    for place in landing.plan.places:
        if not place.written.constructor:
            found.setdefault(place.written.name, []).append(place)
    return found.values()


def _shapes(tensors: Sequence[Tensor]) -> str:
    return ", ".join(str(("B", *t.shape[1:])).replace("'", "") for t in tensors)


def text_of(landing: Landing) -> str:
    """The text of blocks.py."""
    return module_text([place.written for place in landing.plan.places])


def weights_of(landing: Landing) -> dict[str, Tensor]:
    """All tensors, by the path of the module and their name in it."""
    found = {}
    for place in landing.plan.places:
        prefix = f"{place.path}." if place.path else ""
        for name, parameter in place.written.state.items():
            found[prefix + name] = torch.from_numpy(parameter.array.copy()).contiguous()
    return found


def write_folder(
    folder: Path, landing: Landing, manifest: Manifest, text: str, diff: SourceDiff, proof: list[str], name: str
) -> None:
    """Write all files into a folder that exists."""
    from safetensors.torch import save_file

    (folder / files.BLOCKS).write_text(text, encoding="utf-8")
    (folder / "__init__.py").write_text('"""Blocks that fit the device; see README.md."""\n', encoding="utf-8")
    save_file(weights_of(landing), folder / files.WEIGHTS)
    (folder / files.WEIGHTS).chmod((folder / files.BLOCKS).stat().st_mode)  # safetensors lets nobody else read
    files.write_manifest(manifest, folder)
    report = landing.report
    plan = plan_text(name, report.before.sha256 or "0" * 64, manifest.profile, report.applied, report.refused)
    (folder / files.PLAN).write_text(plan, encoding="utf-8")
    (folder / files.DIFF).write_text(diff.text, encoding="utf-8")
    (folder / files.README).write_text(readme(manifest, diff, proof, name), encoding="utf-8")


def readme(manifest: Manifest, diff: SourceDiff, proof: list[str], folder: str) -> str:
    """The page beside the blocks."""
    rows = "\n".join(
        f"| `{b.path or '(the network)'}` | {b.replaces} | `{b.module}` | {', '.join(b.substitutions)} | {_known(b)} |"
        for b in manifest.blocks
    )
    lost = [name for b in manifest.blocks for name in b.lost]
    losses = f"What does something in training, and is gone: {', '.join(lost)}.\n\n" if lost else ""
    losses += "".join(f"Not landed: {r.reason}.\n\n" for r in manifest.refused)
    if manifest.resolution == "fixed":
        losses += "The blocks are for the resolution of the example: write them again for another one.\n\n"
    words = "`npu.diff` changes your source instead; its blocks are empty until such a checkpoint is loaded." if diff.text else ""
    return README.format(
        network=manifest.network, profile=manifest.profile, version=manifest.npu_guard, folder=folder, rows=rows, losses=losses,
        proof="\n".join(f"- {line}" for line in proof), diff=words,
    )  # fmt: skip


def _known(block: Block) -> str:
    return block.proof if block.exact else "close on data"
