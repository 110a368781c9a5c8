"""Networks of timm as ONNX files, for `bench/mending.py`: the smallest of each family, at the size that it is meant for or at 64.

    pip install --no-deps timm torchvision; pip install pillow huggingface_hub safetensors
    python bench/timm_networks.py FOLDER
    python bench/mending.py --no-samples --section timm --devices aimotive-aiware FOLDER

Weights are drawn, for ten classes. What timm begins as a constant (scales of layers at 1e-6, norms of residual branches at 0) is
drawn as well, and so are the statistics of norms: a branch that carries nothing would be right in every form. A file that is
there is left as it is.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import torch
from landing import imported_timm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

SIDES = {
    64: """resnet18 resnext50_32x4d resnet18@cbam resnet18@eca resnet18@se eca_resnet33ts gcresnext26ts ecaresnet26t
        res2net50_14w_8s regnetx_002 regnetz_b16 mobilenetv3_small_050 mobilenetv4_conv_small efficientnet_b0
        tf_efficientnet_b0 fbnetc_100 lcnet_035 hardcorenas_a ghostnet_050 repghostnet_050 mobileone_s0 convnext_atto
        convnextv2_atto inception_next_atto dpn48b darknet53 selecsls42 tresnet_m rdnet_tiny fastvit_t8 caformer_s18
        efficientvit_b0""",
    96: "inception_v3",
    128: "shvit_s1",
    160: "test_vit test_byobnet test_nfnet",
    224: """vit_tiny_patch16_224 deit_tiny_patch16_224 swin_tiny_patch4_window7_224 convnext_tiny eva02_tiny_patch14_224
        vit_small_patch16_rope_224 swinv2_cr_tiny_224 coatnet_nano_rw_224 coat_lite_tiny xcit_nano_12_p16_224 pit_ti_224
        mixer_s32_224 resmlp_12_224 tnt_s_patch16_224 efficientformer_l1 nest_tiny mvitv2_tiny hiera_tiny_224
        gcvit_xxtiny""",
    256: "botnet26t_256 mobilevitv2_050",
}
"""Names by the height and width of the image; what follows @ is the attention that its blocks get."""
UNFUSED = ("eva02_tiny_patch14_224", "vit_small_patch16_rope_224")
"""Those whose attention torch's exporter takes written out alone."""
SMALL = 0.05
"""Constants below this are scales that begin near 0, and biases."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="names of timm (default: all)")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for side, names in SIDES.items():
        for name in names.split():
            path = options.folder / f"{name.replace('@', '_')}.onnx"
            if not path.exists() and (not options.names or name in options.names):
                try:
                    export(name, side, path)
                except Exception as error:  # what torch's exporter and timm raise is theirs
                    print(f"{name}: not exported: {str(error).splitlines()[0][:100]}", file=sys.stderr)


def export(name: str, side: int, path: Path) -> None:
    torch.manual_seed(0)
    base, _, attention = name.partition("@")
    options = {"block_args": {"attn_layer": attention}} if attention else {}
    timm = imported_timm()
    timm.layers.set_fused_attn(name not in UNFUSED)
    model = timm.create_model(base, pretrained=False, num_classes=10, **options).eval()
    _draw(model)
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(2))
    part = path.with_suffix(".part")
    torch.onnx.export(model, (image,), str(part), dynamo=False, opset_version=17, input_names=["input"], output_names=["output"])
    part.rename(path)


@torch.no_grad()
def _draw(model: nn.Module) -> None:
    """Draw what has one number for all elements, and the statistics of norms."""
    random = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if not weight.numel() or not bool((weight == weight.flatten()[0]).all()):
            continue
        start = float(weight.flatten()[0])
        if name.endswith(("bias", "beta")) or ("bias" in name and abs(start) < SMALL):
            weight.copy_(torch.randn(weight.shape, generator=random) * 0.1)
        elif abs(start) < SMALL:
            weight.copy_(torch.rand(weight.shape, generator=random) * 0.3 + 0.1)
        else:
            weight.copy_(start * (torch.randn(weight.shape, generator=random) * 0.1 + 1))
    for module in model.modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=random) * 0.1)
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=random) * 0.5 + 0.75)


if __name__ == "__main__":
    main()
