"""What usually takes the place of an operator that no static pipeline runs, in a network that is written anew."""

from __future__ import annotations

from npu_guard.graph import ops

_SCATTERED = "What is written at known places is Concat of what stays and what is new; what is computed goes to the host."
_GATHERED = "At indices that are known it is Slice and Concat; at computed ones it belongs behind the network, on the host."
_CHOSEN = "Sorting and choosing by value belong behind the network: export the maps, and do it on the host."
_BY_NAME = {
    "GridSample": "On a grid that is known beforehand it is a Resize, or Slice and Concat; on a computed one it goes to the "
    "host, or a dilated convolution takes its place and is trained.",
    "RoiAlign": "Regions are cut out on the host; a head that is convolutional all through needs none.",
    "MaxRoiPool": "Regions are cut out on the host; a head that is convolutional all through needs none.",
    "ScatterND": _SCATTERED,
    "ScatterElements": _SCATTERED,
    "Scatter": _SCATTERED,
    "Gather": _GATHERED,
    "GatherElements": _GATHERED,
    "GatherND": _GATHERED,
    "ArgMax": _CHOSEN,
    "ArgMin": _CHOSEN,
}
_BY_KIND = {
    "recurrent": "Over a known number of steps it is these steps, one behind the other; in a new design, convolutions over time.",
    "control": "Export with a known number of steps and known choices, so that the exporter writes the body out; what depends on "
    "values goes to the host.",
    "selection": _CHOSEN,
    "sequence": "Export tensors of known number and size: an exporter unrolls lists whose length it knows.",
    "text": "Strings are handled in front of the network.",
    "random": "Draw the numbers on the host, and make them an input.",
    "transform": "Of a fixed length it is a convolution with sines and cosines.",
    "cumulative": "Over a short axis it is a 1x1 convolution with a triangle of ones.",
}


def usual_replacement(op_type: str) -> str:
    """`LSTM: over a known number of steps ...`; nothing where there is no usual one."""
    told = _BY_NAME.get(op_type) or _BY_KIND.get(ops.find_kind(op_type))
    return f"{op_type}: {told[0].lower()}{told[1:]}" if told else ""
