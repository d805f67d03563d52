"""What holds for every test: the same examples on every run, and nothing from the caller's environment."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Examples derive from the test itself, so a red run is red again; no deadline, since machines differ.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("ci")


@pytest.fixture(autouse=True, scope="session")
def without_casckpt_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No store, run or setting named in the caller's environment or settings file reaches a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("CASCKPT_")]:
            patch.delenv(name)
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("settings")))
        yield
