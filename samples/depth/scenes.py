"""Rooms with known depth, rendered by numpy: a floor, walls and boxes that stand on the floor, seen by a pinhole camera.

A ray meets a box where the latest of its three entries into slabs comes before the earliest exit (Kay and Kajiya, Ray Tracing
Complex Scenes, SIGGRAPH 1986). Depth is along the camera's axis, in metres, as depth cameras and KITTI give it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
HEIGHT, WIDTH = 48, 64
FOCAL = 0.9
"""Focal length as a share of the width: 58 degrees from left to right."""
FAR = 12.0
"""Distance of the far wall, m."""


def scene(random: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """An image `[3, H, W]` from 0 to 1 and its depth `[1, H, W]` in metres, between 0.3 and 12.5."""
    origin, rays = _camera(random)
    depth, colour = _room(origin, rays, random)
    for _ in range(random.integers(2, 6)):
        turn = random.uniform(0, np.pi)
        size = random.uniform((0.3, 0.3, 0.3), (1.4, 1.8, 1.4))
        centre = np.array([random.uniform(-2.5, 2.5), size[1] / 2, random.uniform(2.0, 9.0)])
        near, face = _box(origin, rays, centre, size, turn)
        nearer = near < depth
        depth = np.where(nearer, near, depth)
        shade = np.array([0.75, 1.0, 0.55])[face] * random.uniform(0.9, 1.1)
        colour = np.where(nearer[..., None], random.uniform(0.15, 0.95, 3) * shade[..., None], colour)
    light = 1.0 / (1.0 + 0.06 * depth)  # a lamp at the camera
    image = colour * light[..., None] * random.uniform(0.8, 1.1) + random.normal(0, 0.015, colour.shape)
    return np.clip(image, 0, 1).transpose(2, 0, 1).astype(np.float32), depth[None].astype(np.float32)


def scenes(count: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Images `[N, 3, H, W]` and depths `[N, 1, H, W]`; equal for equal seeds."""
    random = np.random.default_rng(seed)
    pairs = [scene(random) for _ in range(count)]
    return np.stack([image for image, _ in pairs]), np.stack([depth for _, depth in pairs])


def _camera(random: np.random.Generator) -> tuple[Array, Array]:
    """Where the camera is, and a direction for each pixel `[H, W, 3]` whose part along the camera's axis is 1."""
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    x, y = (u + 0.5 - WIDTH / 2) / (FOCAL * WIDTH), (HEIGHT / 2 - v - 0.5) / (FOCAL * WIDTH)
    pitch = np.radians(random.uniform(-14, 2))
    cos, sin = np.cos(pitch), np.sin(pitch)
    rays = np.stack([x, y * cos + sin, cos - y * sin], -1)
    return np.array([0.0, random.uniform(1.0, 1.9), 0.0]), rays


def _room(origin: Array, rays: Array, random: np.random.Generator) -> tuple[Array, Array]:
    """The floor with tiles, two side walls and the far wall."""
    half, tile = random.uniform(2.5, 4.5), random.uniform(0.4, 1.0)
    with np.errstate(divide="ignore"):
        floor = np.where(rays[..., 1] < 0, -origin[1] / np.minimum(rays[..., 1], -1e-9), np.inf)
        side = half / np.maximum(np.abs(rays[..., 0]), 1e-9)
    far = FAR / rays[..., 2]
    depth = np.minimum(np.minimum(floor, side), far)
    hit = rays * depth[..., None] + origin
    dark = (np.floor(hit[..., 0] / tile) + np.floor(hit[..., 2] / tile)) % 2 * 0.35 + 0.65
    tiles = random.uniform(0.3, 0.9, 3) * dark[..., None]
    walls = random.uniform(0.4, 0.9, 3) * np.where(side < far, 0.8, 1.0)[..., None]
    return depth, np.where((floor <= np.minimum(side, far))[..., None], tiles, walls)


def _box(origin: Array, rays: Array, centre: Array, size: Array, turn: float) -> tuple[Array, NDArray[np.int64]]:
    """The distance at which each ray enters the box, infinite where it does not, and the axis of the face that it meets."""
    cos, sin = np.cos(turn), np.sin(turn)
    into = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    start, step = into @ (origin - centre), rays @ into.T
    step = np.where(np.abs(step) < 1e-9, 1e-9, step)
    one, other = (-size / 2 - start) / step, (size / 2 - start) / step
    enter, leave = np.minimum(one, other), np.maximum(one, other).min(-1)
    entry = enter.max(-1)
    met = (entry < leave) & (entry > 0.3)
    return np.where(met, entry, np.inf), enter.argmax(-1)
