"""What all tests share: a small simulated screen, and the choice of accelerator."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
import torch

mpl.use("Agg")
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--accelerator",
        choices=["auto", "cpu", "gpu"],
        default="auto",
        help="where networks are trained in tests; auto takes a GPU when there is one",
    )


@pytest.fixture(scope="session")
def accelerator(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--accelerator"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    # nothing of ours draws from global state; libraries may
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def _screen():
    import transpert as tp

    return tp.datasets.simulate(
        n_contexts=5, n_perturbations=3, n_genes=80, n_cells=60, n_combinations=1, n_batches=2, dependence=0.3
    )


@pytest.fixture
def screen(_screen):
    """Five contexts, three perturbations and a pair, two batches, 80 genes."""
    return _screen.copy()


SETUP = {"perturbation_key": "perturbation", "context_keys": ["context"], "layer": "counts"}


@pytest.fixture(scope="session")
def setup_keys() -> dict:
    return dict(SETUP)
