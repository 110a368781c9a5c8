"""Convolutional autoencoder: strided convolutions down, transposed convolutions up."""

from __future__ import annotations

from torch import Tensor, nn

WIDTHS = (32, 64, 128, 256)
TINY_WIDTHS = (8, 16, 16, 24)


class AutoEncoder(nn.Module):
    """Image `[B, 3, H, W]` -> reconstruction of the same shape in [0, 1]; H and W multiples of 16."""

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        down: list[nn.Module] = []
        for before, after in zip((3, *widths[:-1]), widths, strict=True):
            down += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        up: list[nn.Module] = []
        for before, after in zip(widths[:0:-1], widths[-2::-1], strict=True):
            up += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.encoder = nn.Sequential(*down)
        self.decoder = nn.Sequential(*up, nn.ConvTranspose2d(widths[0], 3, 4, stride=2, padding=1), nn.Sigmoid())

    def forward(self, image: Tensor) -> Tensor:
        result: Tensor = self.decoder(self.encoder(image))
        return result
