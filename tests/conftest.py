"""The backends: a test that asks for ``engine`` runs on every one of them.

``DPMODEL_BACKENDS="numpy torch" pytest`` leaves the others out.  A test that needs a framework that is not installed is
skipped, and says which; ``make test`` installs them all.

Property tests draw the same examples everywhere; ``pytest --hypothesis-profile=default`` looks for new ones.
"""

import os
from collections.abc import Generator

import hypothesis
import pytest

from dpmodel.backend import Engine
from dpmodel.capabilities import why_not
from dpmodel.errors import BackendError
from engines import CHOSEN, engine_of

hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.load_profile("fixed")


# dozens of models that each run a few times: XLA's optimizations take longer than all else
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(feature): fails where dpmodel.capabilities says so, and nowhere else")


FRAMEWORKS = {"torch", "jax", "optax", "paddle"}


def missing_framework(error: BaseException | None) -> str | None:
    """The framework whose absence ``error`` tells, itself or as its cause."""
    if isinstance(error, BackendError | pytest.Collector.CollectError):
        error = error.__cause__
    return error.name if isinstance(error, ModuleNotFoundError) and error.name in FRAMEWORKS else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    """Fixtures that need a framework that is not installed skip their tests."""
    yield from skipping()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """So do tests themselves."""
    yield from skipping()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """And files of tests that import one."""
    report = yield
    call = getattr(report, "call", None)
    if call is not None and call.excinfo and (name := missing_framework(call.excinfo.value)):
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"Skipped: {name} is not installed")
    return report


def skipping() -> Generator[None, None, None]:
    """Skip instead of an error that only says that a framework is not installed."""
    try:
        yield
    except (ModuleNotFoundError, BackendError) as error:
        if name := missing_framework(error):
            pytest.skip(f"{name} is not installed")
        raise


@pytest.fixture(params=CHOSEN)
def engine(request: pytest.FixtureRequest) -> Engine:
    """An engine of each backend; the test is expected to fail where the backend lacks what it ``needs``."""
    for marker in request.node.iter_markers("needs"):
        if reason := why_not(marker.args[0], request.param):
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    return engine_of(request.param)
