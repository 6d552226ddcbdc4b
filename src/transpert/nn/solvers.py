"""Solvers of ``dz/dt = v(t, z)`` from 0 to 1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from transpert.errors import DependencyError

from .options import Solver


def solve(
    velocity: Callable[[Tensor, Tensor], Tensor], start: Tensor, *, steps: int, solver: Solver = "euler"
) -> Tensor:
    """Follow a velocity from time 0 to time 1.

    Parameters
    ----------
    velocity
        Maps times ``(S,)`` and states ``(S, N, d)`` to velocities.
    start : (S, N, d)
        State at time 0.
    steps
        Number of steps of the fixed-step solvers.
    solver
        ``"euler"``, ``"midpoint"`` or ``"dopri5"`` (torchdiffeq).

    Returns
    -------
    State at time 1, ``(S, N, d)``.

    Raises
    ------
    transpert.errors.DependencyError
        If torchdiffeq is wanted and not installed.

    Examples
    --------
    >>> import torch
    >>> from transpert.nn import solve
    >>> solve(lambda t, z: torch.ones_like(z), torch.zeros(1, 1, 1), steps=2).item()
    1.0
    """
    if solver == "dopri5":
        return _adaptive(velocity, start)
    state, width = start, 1.0 / steps
    for step in range(steps):
        t = torch.full((len(start),), step * width, device=start.device, dtype=start.dtype)
        if solver == "euler":
            state = state + width * velocity(t, state)
        else:
            middle = state + 0.5 * width * velocity(t, state)
            state = state + width * velocity(t + 0.5 * width, middle)
    return state


def _adaptive(velocity: Callable[[Tensor, Tensor], Tensor], start: Tensor) -> Tensor:
    try:
        from torchdiffeq import odeint
    except ImportError as error:
        raise DependencyError(
            "the adaptive solver needs torchdiffeq", remedy='Install it with pip install "transpert[ode]".'
        ) from error
    times = torch.tensor([0.0, 1.0], device=start.device)
    path = odeint(
        lambda t, z: velocity(t.expand(len(z)).to(z.dtype), z), start, times, method="dopri5", rtol=1e-3, atol=1e-3
    )
    return path[-1]
