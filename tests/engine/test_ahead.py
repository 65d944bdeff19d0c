import threading

import pytest
import torch

from napari_unet.engine.ahead import Ahead


def numbers(generator):
    return lambda number: (number, float(torch.rand(1, generator=generator)))


def seeded():
    return torch.Generator().manual_seed(7)


def by_hand(count):
    make = numbers(seeded())
    return [make(number) for number in range(count)]


def test_what_is_made_ahead_is_what_would_have_been_made():
    generator = seeded()
    with Ahead(numbers(generator), generator) as ahead:
        assert [ahead.take(number) for number in range(5)] == by_hand(5)


def test_the_next_one_is_made_while_the_last_one_is_used():
    generator, made = seeded(), threading.Event()

    def make(number):
        if number == 1:
            made.set()
        return number

    with Ahead(make, generator) as ahead:
        ahead.take(0)
        assert made.wait(20)  # nobody has asked for it yet


def test_rewinding_takes_back_the_random_numbers_of_what_was_not_taken():
    generator = seeded()
    with Ahead(numbers(generator), generator) as ahead:
        first = [ahead.take(0), ahead.take(1)]
        ahead.rewind()
        state = generator.get_state()
        rest = [ahead.take(2), ahead.take(3)]
    assert [*first, *rest] == by_hand(4)
    resumed = torch.Generator()
    resumed.set_state(state)
    with Ahead(numbers(resumed), resumed) as ahead:
        assert [ahead.take(2), ahead.take(3)] == rest


def test_two_rows_are_one():
    generator = seeded()
    taken = []
    for numbers_taken in (range(3), range(3, 5)):
        with Ahead(numbers(generator), generator) as ahead:
            taken += [ahead.take(number) for number in numbers_taken]
    assert taken == by_hand(5)


def test_an_error_is_raised_where_the_thing_is_taken_and_costs_no_random_numbers():
    generator, wrong = seeded(), {1}
    honest = numbers(generator)

    def make(number):
        made = honest(number)
        if number in wrong:
            raise RuntimeError("not enough memory")
        return made

    with Ahead(make, generator) as ahead:
        first = ahead.take(0)
        with pytest.raises(RuntimeError, match="memory"):
            ahead.take(1)
        wrong.clear()
        assert [first, ahead.take(1)] == by_hand(2)


def test_its_thread_computes_alone_and_ends_with_it():
    before, threads = set(threading.enumerate()), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with Ahead(lambda _number: torch.get_num_threads(), seeded()) as ahead:
            assert ahead.take(0) == 1
            assert torch.get_num_threads() == 2
            later = []
            other = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
            other.start()
            other.join()
            assert later == [2]
    finally:
        torch.set_num_threads(threads)
    assert set(threading.enumerate()) == before
