"""The backends: a test that asks for ``engine`` runs on every one of them.

``DPMODEL_BACKENDS="numpy torch" pytest`` leaves the others out.  Otherwise a framework that is not there is a failure.

Property tests draw the same examples everywhere; ``pytest --hypothesis-profile=default`` looks for new ones.
"""

import os

import hypothesis
import pytest

from dpmodel.backend import Engine
from dpmodel.capabilities import why_not
from engines import CHOSEN, engine_of

hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.load_profile("fixed")


# dozens of models that each run a few times: XLA's optimizations take longer than all else
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(feature): fails where dpmodel.capabilities says so, and nowhere else")


@pytest.fixture(params=CHOSEN)
def engine(request: pytest.FixtureRequest) -> Engine:
    """An engine of each backend; the test is expected to fail where the backend lacks what it ``needs``."""
    for marker in request.node.iter_markers("needs"):
        if reason := why_not(marker.args[0], request.param):
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    return engine_of(request.param)
