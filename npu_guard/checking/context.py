"""What a rule may ask: the facts of a model, and the limits of a device."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from npu_guard.analysis.analyze import Analysis
from npu_guard.analysis.facts import Facts
from npu_guard.device import Profile
from npu_guard.graph.graph import Node

if TYPE_CHECKING:
    from npu_guard.analysis.channels.paddings import Channels


class Context(Facts):
    """One model on one device: what a rule may ask."""

    def __init__(self, analysis: Analysis, profile: Profile) -> None:
        super().__init__(analysis)
        self.profile = profile

    @functools.cached_property
    def channels(self) -> Channels:
        """Regions in which channels can be widened to the device's blocks."""
        from npu_guard.analysis.channels.paddings import Channels

        return Channels(self, self.limit("channels.multiple_of"))

    def limit(self, key: str) -> Any:
        """The device's limit, None where it sets none."""
        return self.profile.limit(key)

    def refuses(self, node: Node) -> bool:
        """Whether the device has no such operator at all; what else is wrong with the node then follows from that."""
        operator = self.profile.operator(node.op)
        return self.profile.unlisted is not None if operator is None else operator.status == "refused"
