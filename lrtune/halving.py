"""Synchronous halving: who goes on to the next rung. Pure, and blind to the order of candidates.

Optuna's own pruners either prune nothing when candidates advance together, or depend on the order
in which they are told; so the decision is made here, once per rung, on all of them.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping
from typing import TypeVar

Candidate = TypeVar("Candidate", bound=Hashable)


def survivors(
    scores: Mapping[Candidate, float], groups: Mapping[Candidate, str], eta: float = 2.0
) -> set[Candidate]:
    """The best share 1 / `eta` of the candidates, dealt out evenly over their groups.

    First the best of every group goes on, then every second best, and so on; within a round the
    better score comes first. A schedule that decays late, and is behind on the early rungs for
    that reason alone, is thus never out.

    Args:
        scores: Candidate to score, lower is better; NaN and infinity are worst.
        groups: Candidate to the group that has a quota, such as its schedule.
        eta: > 1.

    Returns:
        Exactly ceil(K / eta) of the K candidates, or one per group where that is more.

    >>> scores = {"a1": 1.0, "a2": 1.1, "a3": 1.2, "b1": 5.0, "b2": 6.0}
    >>> sorted(survivors(scores, {name: name[0] for name in scores}))
    ['a1', 'a2', 'b1']
    """
    ranked = defaultdict(list)
    for candidate in sorted(scores, key=lambda one: (_worst(scores[one]), repr(one))):
        ranked[groups[candidate]].append(candidate)
    places = [
        (place, _worst(scores[candidate]), repr(candidate), candidate)
        for members in ranked.values()
        for place, candidate in enumerate(members)
    ]
    count = max(math.ceil(len(scores) / eta), len(ranked))
    return {candidate for *_, candidate in sorted(places, key=lambda one: one[:3])[:count]}


def _worst(score: float) -> float:
    return score if math.isfinite(score) else math.inf
