"""The pool of drawn scenes, and groups of drawings that are left out of it."""

import itertools

import numpy as np
import pool
import pytest
from pool import Pool
from procedural import GROUPS, KINDS


def kinds_in(drawn, times=60):
    rng = np.random.default_rng(0)
    return {drawn.draw(rng).kind for _ in range(times)}


def group_of(kind):
    return next(group for group, kinds in GROUPS.items() if kind in kinds)


def test_every_kind_is_in_one_group():
    assert sorted(itertools.chain(*GROUPS.values())) == sorted(KINDS)


def test_what_is_left_out_is_never_drawn(scenes):
    everything = kinds_in(Pool(scenes))
    group = group_of(min(everything))
    rest = kinds_in(Pool(scenes, [group]))
    assert rest == {kind for kind in everything if group_of(kind) != group}
    assert rest
    assert rest < everything


def test_a_group_that_does_not_exist_is_named_with_those_that_do(scenes):
    with pytest.raises(SystemExit, match="unicorns; there are cells"):
        Pool(scenes, ["unicorns"])


def test_scenes_that_do_not_tell_their_kinds_cannot_be_left_out(scenes, tmp_path):
    [path] = scenes.glob("scenes_*.npz")
    with np.load(path) as arrays:
        np.savez(tmp_path / path.name, **{n: arrays[n] for n in arrays if n != "kinds"})
    assert kinds_in(Pool(tmp_path)) == {""}
    with pytest.raises(SystemExit, match="draw them anew"):
        Pool(tmp_path, ["cells"])


def test_nothing_but_what_is_left_out_is_no_pool(scenes):
    with pytest.raises(SystemExit, match="no scenes"):
        Pool(scenes, list(GROUPS))


def test_files_that_are_there_are_not_drawn_again(scenes, capsys, monkeypatch):
    monkeypatch.setattr(pool, "_PER_FILE", 6)
    pool.fill(scenes, 6, 0, 96)
    assert not capsys.readouterr().out
