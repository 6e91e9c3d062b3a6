# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A queue holds so many items and so many bytes, and tells what does not fit."""

from otelagent.queues import BoundedQueue


def test_order_is_kept_and_taking_makes_room():
    queue = BoundedQueue(2, 100)

    assert queue.put("a", 60)
    assert queue.put("b", 40)
    assert queue.take() == ["a", "b"]
    assert len(queue) == 0
    assert queue.put("c", 100)
    assert queue.take() == ["c"]


def test_an_item_too_many_has_no_room():
    queue = BoundedQueue(2)

    assert [queue.put(each) for each in range(4)] == [True, True, False, False]
    assert queue.take() == [0, 1]


def test_a_byte_too_many_has_no_room():
    queue = BoundedQueue(100, 10)

    assert queue.put("x", 10)
    assert not queue.put("y", 1)
