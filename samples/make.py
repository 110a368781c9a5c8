"""Write sample_net.onnx, byte for byte the file that is checked in: `python samples/make.py [FILE]`, in a checkout.

Needs torch (`make .venv/dev`). Another torch version may spell the graph differently; requirements/torch.txt
names the one that made the file.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main(path: Path) -> None:
    """Export the sample network to `path`."""
    import onnx

    from npu_guard.project.export import export

    sys.path.insert(0, str(HERE))
    import sample_net

    export(sample_net.build(), sample_net.inputs(), path, root=HERE.parent)
    model = onnx.load(path)
    model.producer_version = model.producer_version.partition("+")[0]  # "+cpu" and the like say how torch was built
    path.write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "sample_net.onnx")
