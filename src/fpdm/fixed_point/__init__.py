"""Fixed points: solve, accelerate and differentiate through them. Depends on no other part of fpdm.

Example:
    >>> import torch
    >>> from fpdm.fixed_point import Anderson, Stop, solve
    >>> solve(torch.cos, torch.zeros(1, 1), solver=Anderson(), stop=Stop(20, tol=1e-6)).z
    tensor([[0.7391]])
"""

from fpdm.fixed_point.gradients import (
    FixedPointSolver,
    Gradient,
    Implicit,
    JacobianFree,
    jfb,
    multistep_jfb,
    stochastic_jfb,
    unrolled,
)
from fpdm.fixed_point.solve import Map, Solution, Solver, Stop, mean_iterations, relative_change, solve
from fpdm.fixed_point.solvers import Anderson, Picard

__all__ = [
    "Anderson",
    "FixedPointSolver",
    "Gradient",
    "Implicit",
    "JacobianFree",
    "Map",
    "Picard",
    "Solution",
    "Solver",
    "Stop",
    "jfb",
    "mean_iterations",
    "multistep_jfb",
    "relative_change",
    "solve",
    "stochastic_jfb",
    "unrolled",
]
