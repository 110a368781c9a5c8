"""Random functions of which nothing is known but that equal arguments have equal values, and one that is also invertible."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from npu_guard.proof.modular import Array

_U = np.uint64


class Oracle:
    """Keyed hashes, element by element. The mixing steps are those of splitmix64 (Steele, Lea and Flood 2014)."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._keys: dict[str, tuple[np.uint64, np.uint64]] = {}

    def _key(self, name: str) -> tuple[np.uint64, np.uint64]:
        if name not in self._keys:
            digest = hashlib.blake2b(name.encode(), key=self._secret, digest_size=16).digest()
            self._keys[name] = (_U(int.from_bytes(digest[:8], "little") | 1), _U(int.from_bytes(digest[8:], "little")))
        return self._keys[name]

    def mix(self, name: str, arguments: Sequence[Array]) -> Array:
        """64 bits for each element of the arguments, which are broadcast."""
        factor, state = self._key(name)
        h = np.full((), state)
        with np.errstate(over="ignore"):  # products modulo 2^64, of which numpy warns where an array has one element
            for argument in arguments:
                h = (h ^ argument.astype(_U)) * factor
                h = (h ^ (h >> _U(30))) * _U(0xBF58476D1CE4E5B9)
                h = (h ^ (h >> _U(27))) * _U(0x94D049BB133111EB)
                h = h ^ (h >> _U(31))
        return np.asarray(h)

    def value(self, name: str, m: int, arguments: Sequence[Array]) -> Array:
        """An element below m for each element of the arguments."""
        return (self.mix(f"{name} mod {m}", arguments) % _U(m)).astype(np.int64)

    def permute(self, name: str, pair: tuple[Array, Array], moduli: tuple[int, int]) -> tuple[Array, Array]:
        """A random permutation of the pairs of elements: four rounds (Luby and Rackoff 1988)."""
        a, b = pair
        p, q = moduli
        for turn in range(2):
            a = (a + self.value(f"{name}/{turn}a", p, [b])) % p
            b = (b + self.value(f"{name}/{turn}b", q, [a])) % q
        return a, b

    def restore(self, name: str, pair: tuple[Array, Array], moduli: tuple[int, int]) -> tuple[Array, Array]:
        """What `permute` made this pair from."""
        a, b = pair
        p, q = moduli
        for turn in (1, 0):
            b = (b - self.value(f"{name}/{turn}b", q, [a])) % q
            a = (a - self.value(f"{name}/{turn}a", p, [b])) % p
        return a, b
