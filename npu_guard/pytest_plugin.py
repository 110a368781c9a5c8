"""The fixture `assert_npu_compatible` for pytest, registered by an entry point.

Every test run of a project that has npu-guard installed loads this file, so it imports nothing that takes time.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from npu_guard import testing


@pytest.fixture(scope="session")
def assert_npu_compatible() -> Callable[..., None]:
    """Fails the test, with the report, where a model does not fit the device; see `npu_guard.testing`."""
    return testing.assert_npu_compatible
