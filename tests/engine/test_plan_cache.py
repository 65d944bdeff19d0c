import json
import multiprocessing

import pytest

from napari_unet.engine import plan_cache

KEY = {"torch": "2.9", "threads": 2, "network": {"depth": 4, "pooling": []}}
VALUE = {"plan": "bf16, channels last, cpu", "seconds": {"a": 0.5}}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(plan_cache.VARIABLE, str(tmp_path))
    return tmp_path / "plans"


def only_file(folder):
    (path,) = folder.iterdir()
    return path


def test_what_was_kept_is_found_for_the_same_key_alone(folder):
    assert plan_cache.load(KEY) is None
    assert plan_cache.store(KEY, VALUE)
    assert plan_cache.load(KEY) == VALUE
    assert plan_cache.load({**KEY, "torch": "2.10"}) is None
    assert plan_cache.load({**KEY, "threads": 1}) is None
    (entry,) = plan_cache.entries()
    assert (entry.key, entry.value) == (KEY, VALUE)
    assert plan_cache.clear() == 1
    assert plan_cache.load(KEY) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b'{"format": 1}',
        b'{"format": 2, "key": {}, "value": {}}',
        b'{"format": 1, "key": [], "value": {}}',
        b"[" * 100_000,
        b" " * 10_000_000,
    ],
)
def test_a_damaged_file_is_as_good_as_none(folder, content):
    plan_cache.store(KEY, VALUE)
    only_file(folder).write_bytes(content)
    assert plan_cache.load(KEY) is None
    assert plan_cache.entries() == []
    assert plan_cache.store(KEY, VALUE)
    assert plan_cache.load(KEY) == VALUE


def test_a_file_of_another_key_under_the_right_name_is_not_believed(folder):
    plan_cache.store(KEY, VALUE)
    path = only_file(folder)
    content = json.loads(path.read_text())
    content["key"]["threads"] = 64
    path.write_text(json.dumps(content))
    assert plan_cache.load(KEY) is None


def test_a_folder_that_cannot_be_written_does_no_harm(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(plan_cache.VARIABLE, str(tmp_path / "file"))
    assert not plan_cache.store(KEY, VALUE)
    assert plan_cache.load(KEY) is None
    assert plan_cache.entries() == []
    assert plan_cache.clear() == 0


def test_a_folder_in_place_of_the_file_does_no_harm(folder):
    plan_cache.store(KEY, VALUE)
    path = only_file(folder)
    path.unlink()
    path.mkdir()
    assert plan_cache.load(KEY) is None
    assert not plan_cache.store(KEY, VALUE)
    assert plan_cache.clear() == 0
    assert [each.name for each in folder.iterdir()] == [path.name]  # no half-written file is left


@pytest.mark.parametrize("value", ["off", "0", "no", " OFF "])
def test_who_wants_no_cache_gets_none(monkeypatch, folder, value):
    plan_cache.store(KEY, VALUE)
    monkeypatch.setenv(plan_cache.VARIABLE, value)
    assert plan_cache.folder() is None
    assert plan_cache.load(KEY) is None
    assert not plan_cache.store(KEY, VALUE)
    assert plan_cache.entries() == []
    assert plan_cache.clear() == 0


def test_without_the_variable_it_lies_in_the_users_cache_folder(monkeypatch):
    monkeypatch.delenv(plan_cache.VARIABLE)
    place = plan_cache.folder()
    assert "napari-unet" in place.parts
    assert place.name == "plans"


def write_many(number):
    for count in range(50):
        plan_cache.store(KEY, {"number": number, "count": count, "filling": [number] * 1000})


def test_two_processes_that_write_at_once_leave_a_whole_file(folder):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(number,)) for number in (1, 2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        found = plan_cache.load(KEY)
        assert found is None or set(found["filling"]) == {found["number"]}
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert plan_cache.load(KEY)["count"] == 49
    assert len(list(folder.iterdir())) == 1
