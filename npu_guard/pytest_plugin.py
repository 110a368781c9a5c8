"""The fixture `assert_npu_compatible` for pytest, registered by an entry point.

Every test run of a project that has npu-guard installed loads this file, so it imports nothing that takes time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from npu_guard import testing

if TYPE_CHECKING:
    from npu_guard.api.results import Report


@pytest.fixture(scope="session")
def assert_npu_compatible() -> Callable[..., Report]:
    """Returns the report of a model, and fails the test with it where it does not fit; see `npu_guard.testing`."""
    return testing.assert_npu_compatible
