"""Which layer makes two models depart: the same question for the first 1, 2, 4, ... layers."""

from __future__ import annotations

from collections.abc import Callable


def first_departure(agrees: Callable[[int], bool], num_layers: int) -> int:
    """The least found number of layers with which the models differ; with one fewer they agree.

    `agrees(k)` compares the first `k` layers; that `agrees(num_layers)` is False is known. Numbers
    are doubled first: what few layers cost is little, and a fault is often in the first of them.
    """
    low, high = 0, 1
    while high < num_layers and agrees(high):
        low, high = high, min(2 * high, num_layers)
    while high - low > 1:
        middle = (low + high) // 2
        if agrees(middle):
            low = middle
        else:
            high = middle
    return high
