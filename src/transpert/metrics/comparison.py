"""One predicted population beside the real one: what a metric of a single population is given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from transpert._docstrings import fill_docstring

from .differential_expression import CELL_EVAL, CHALLENGE_2026, TRANSPERT, Convention, DifferentialExpression
from .distribution import energy_distance
from .population import Population


@dataclass(eq=False)
@fill_docstring
class Comparison:
    """A predicted population, the real one, and the controls of both; what metrics share is computed once.

    Parameters
    ----------
    predicted, real : (N, G), (M, G)
        Log1p counts per 10k, as matrices or as :class:`Population` objects.
    controls : (K, G)
        Real control cells.
    predicted_controls : (L, G)
        Controls that the prediction is compared with; the real ones by default.
    perturbation, context
        Labels; metrics of a whole prediction compare the perturbations of one context.
    targets
        Columns of the genes that the perturbation acts on itself (none for a drug), which some metrics leave out.

    %(raises_bad_matrices)s
    """

    # matrices are taken too, and wrapped
    predicted: Population
    real: Population
    controls: Population
    predicted_controls: Population | None = None
    perturbation: str = ""
    context: str = ""
    targets: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        self.controls = Population.of(self.controls, where="the control cells")
        self.predicted = Population.of(self.predicted, where="the predicted cells")
        self.real = Population.of(self.real, where="the real cells")
        if self.predicted_controls is not None:
            self.predicted_controls = Population.of(self.predicted_controls, where="the predicted control cells")
        for population in (self.predicted, self.real, self.reference):
            population.check_genes(self.controls.n_genes)
        self.targets = tuple(int(column) for column in self.targets)

    @property
    def reference(self) -> Population:
        """The controls of the prediction."""
        return self.controls if self.predicted_controls is None else self.predicted_controls

    # --- what metrics read; the names are those of ``Metric.needs`` ---------------------------------------------
    @property
    def mean_real(self) -> np.ndarray:
        """Mean profile of the real cells, ``(G,)``."""
        return self.real.mean

    @property
    def mean_predicted(self) -> np.ndarray:
        """Mean profile of the predicted cells, ``(G,)``."""
        return self.predicted.mean

    @cached_property
    def delta_real(self) -> np.ndarray:
        """Mean shift of the real cells from the real controls, ``(G,)``."""
        return self.real.mean - self.controls.mean

    @cached_property
    def delta_predicted(self) -> np.ndarray:
        """Mean shift of the predicted cells from their controls, ``(G,)``."""
        return self.predicted.mean - self.reference.mean

    @property
    def de_real(self) -> DifferentialExpression:
        """Tests of the real cells against the real controls."""
        return self.tables(TRANSPERT)[1]

    @property
    def de_predicted(self) -> DifferentialExpression:
        """Tests of the predicted cells against their controls."""
        return self.tables(TRANSPERT)[0]

    @cached_property
    def energy_real(self) -> float:
        """Energy distance of the real cells to the real controls, with self-pairs."""
        return energy_distance(self.real, self.controls, self_pairs=True)

    @cached_property
    def energy_predicted(self) -> float:
        """Energy distance of the predicted cells to their controls, with self-pairs."""
        return energy_distance(self.predicted, self.reference, self_pairs=True)

    @property
    def n_significant_real(self) -> float:
        """Number of really significant genes."""
        return float(self.tables(CELL_EVAL)[1].n_significant)

    @property
    def n_significant_predicted(self) -> float:
        """Number of genes predicted significant."""
        return float(self.tables(CELL_EVAL)[0].n_significant)

    @property
    def significant_real(self) -> np.ndarray:
        """Which genes are really significant, ``(G,)`` bool."""
        return self.de_real.significant

    @property
    def z_real(self) -> np.ndarray:
        """Signed statistics of the real tests, ``(G,)``."""
        return self.de_real.z_score

    @property
    def bulk_real(self) -> np.ndarray:
        """Profile of the summed counts of the real cells, ``(G,)``."""
        return self.real.bulk

    @property
    def bulk_predicted(self) -> np.ndarray:
        """Profile of the summed counts of the predicted cells, ``(G,)``."""
        return self.predicted.bulk

    @property
    def bulk_controls(self) -> np.ndarray:
        """Profile of the summed counts of the real controls, ``(G,)``."""
        return self.controls.bulk

    @property
    def noise_real(self) -> float:
        """Sampling variance of ``bulk_real``."""
        return self.real.bulk_noise

    @property
    def noise_predicted(self) -> float:
        """Sampling variance of ``bulk_predicted``."""
        return self.predicted.bulk_noise

    @property
    def noise_controls(self) -> float:
        """Sampling variance of ``bulk_controls``."""
        return self.controls.bulk_noise

    def tables(self, convention: Convention) -> tuple[DifferentialExpression, DifferentialExpression]:
        """Return the predicted and the real table of differential expression."""
        # the challenge compares both with the real controls, whatever controls the prediction has
        reference = self.controls if convention is CHALLENGE_2026 else self.reference
        return (
            self.predicted.differential_expression(reference, convention),
            self.real.differential_expression(self.controls, convention),
        )
