"""Networks in files: what comes back, and what is refused."""

import errno
import json
import os
import pickle
import struct
import sys
import threading
import tracemalloc

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load, save

from napari_unet.model import checkpoint
from napari_unet.model.checkpoint import load_model, save_model
from napari_unet.model.unet import UNet, UNetConfig
from napari_unet.ops.errors import InputError


def make_model(seed=0, **config):
    settings = {"base_channels": 2, "depth": 2, **config}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet(**settings)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def contents(path):
    """Return tensors and metadata of a file."""
    with safe_open(path, "pt") as file:
        return load(path.read_bytes()), file.metadata()


def refuse(path, match):
    """Loading says in one line what is wrong and the cure."""
    with pytest.raises(InputError, match=match) as caught:
        load_model(path)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) - len(str(path)) < 200
    assert any(cure in message for cure in ("choose", "update", "save the model again"))


def equal(first, second):
    states = first.state_dict(), second.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][name], states[1][name]) for name in states[0]
    )


# ------------------------------------------------------------------------------- round trip


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"in_channels": 3, "classes": 5, "depth": 1, "dropout": 0.0},
        {"batch_norm": True, "depth": 3, "base_channels": 3, "dropout": 0.25},
    ],
)
def test_a_model_comes_back_bit_for_bit(path, config):
    model = make_model(**config)
    if model.config.batch_norm:
        side = model.config.geometry.input_size(8)
        model.train()(torch.randn(2, 1, side, side))  # statistics other than at the start
    assert save_model(model, path) == path
    loaded = load_model(str(path))
    assert loaded.config == model.config
    assert equal(loaded, model)
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    assert all(tensor.device.type == "cpu" for tensor in loaded.state_dict().values())


def test_a_loaded_model_predicts_and_learns(path):
    model = make_model().eval()
    save_model(model, path)
    loaded = load_model(path)
    image = torch.randn(1, 1, 60, 60)
    assert torch.equal(loaded(image), model(image))
    loaded(image).sum().backward()
    assert all(parameter.grad is not None for parameter in loaded.parameters())


def test_what_the_file_says_of_itself(path):
    save_model(make_model(classes=3), path)
    _, metadata = contents(path)
    assert metadata["format"] == "napari-unet"
    assert metadata["format_version"] == "1"
    assert json.loads(metadata["config"]) == UNetConfig(1, 3, 2, 2).to_dict()
    assert metadata["package_version"]


def test_a_trained_layout_and_another_precision_are_saved_too(path):
    model = make_model()
    save_model(make_model().to(memory_format=torch.channels_last), path)
    assert equal(load_model(path), model)
    save_model(make_model().double(), path)
    assert equal(load_model(path), model)


def test_saving_leaves_the_model_alone(path):
    model = make_model().to(memory_format=torch.channels_last).train()
    before = {name: (t.clone(), t.stride()) for name, t in model.state_dict().items()}
    save_model(model, path)
    assert model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name][0])
        assert tensor.stride() == before[name][1]


def test_the_global_generator_is_left_alone(path):
    state = torch.get_rng_state()
    save_model(make_model(), path)
    load_model(path)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_loaded_model_does_not_depend_on_its_file(path):
    model = make_model()
    save_model(model, path)
    loaded = load_model(path)
    size = path.stat().st_size
    with path.open("r+b") as file:  # in place: the same file, other contents
        file.write(b"\xff" * size)
    assert equal(loaded, model)


# ------------------------------------------------------------------------------- writing


def test_an_earlier_file_is_replaced(path):
    save_model(make_model(1), path)
    save_model(make_model(2), path)
    assert equal(load_model(path), make_model(2))
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_save_leaves_the_earlier_file_and_nothing_else(path, monkeypatch, step):
    save_model(make_model(1), path)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint.os, step, full)
    with pytest.raises(InputError, match="no space left on device; choose another folder"):
        save_model(make_model(2), path)
    monkeypatch.undo()
    assert equal(load_model(path), make_model(1))
    assert os.listdir(path.parent) == [path.name]


def test_an_interrupted_save_leaves_the_earlier_file_and_nothing_else(path, monkeypatch):
    save_model(make_model(1), path)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_model(make_model(2), path)
    assert equal(load_model(path), make_model(1))
    assert os.listdir(path.parent) == [path.name]


def test_a_reader_never_sees_half_a_file(path):
    models = [make_model(seed) for seed in range(2)]
    save_model(models[0], path)
    failures, done = [], threading.Event()

    def read():
        while not done.is_set():
            try:
                loaded = load_model(path)
                if not any(equal(loaded, model) for model in models):
                    failures.append("a mixture")
            except InputError as error:
                failures.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(20):
        save_model(models[turn % 2], path)
    done.set()
    reader.join()
    assert failures == []


def test_places_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "file").touch()
    for place, match in [
        (tmp_path / "missing" / "m.safetensors", "no folder .*missing; make it"),
        (tmp_path / "not" / "there" / "m.safetensors", "no folder .*there; make it"),
        (tmp_path / "file" / "m.safetensors", "cannot be written: .*; choose another folder"),
        (tmp_path, "is a folder; add the name"),
        (tmp_path / ("x" * 300), "cannot be written: file name too long"),
        (tmp_path / "zero\0byte", "no file name"),
        (tmp_path / "half a character \ud800", "no file name"),
    ]:
        with pytest.raises(InputError, match=match):
            save_model(make_model(), place)
    assert sorted(os.listdir(tmp_path)) == ["file"]


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="no permission stops an administrator"
)
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="permission denied"):
        save_model(make_model(), tmp_path / "m.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_saved(path, value):
    save_model(make_model(1), path)
    model = make_model(2)
    with torch.no_grad():
        model.output.weight[0] = value
    with pytest.raises(InputError, match=r"output\.weight are not finite; .* lower learning rate"):
        save_model(model, path)
    assert equal(load_model(path), make_model(1))


# ------------------------------------------------------------------------------- other files


class Trap:
    """Pickled, it would write a file when it is opened."""

    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return os.mkdir, (self.flag,)


@pytest.mark.parametrize("protocol", ["torch", 2, 4, pickle.HIGHEST_PROTOCOL])
def test_a_pickle_is_refused_and_not_opened(path, tmp_path, protocol):
    flag = str(tmp_path / "code was run")
    if protocol == "torch":
        torch.save({"weights": Trap(flag)}, path)
    else:
        path.write_bytes(pickle.dumps(Trap(flag), protocol=protocol))
    refuse(path, "pickled")
    assert not os.path.exists(flag)


@pytest.mark.parametrize(
    "data",
    [b"x", b"not a model\n" * 50, b"\x89PNG\r\n\x1a\n" + bytes(99), b"II*\0" + bytes(99), bytes(8)],
)
def test_something_else_is_refused(path, data):
    path.write_bytes(data)
    refuse(path, "cut off, damaged or no model")


def test_what_is_not_a_file_is_refused(path, tmp_path):
    refuse(path, "no such file")
    refuse(tmp_path, "is a folder")
    refuse("zero\0byte", "no file name")
    refuse("half a character \ud800", "no file name")
    refuse(tmp_path / ("x" * 300), "cannot be read: file name too long")
    path.touch()
    refuse(path, "is empty")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.timeout(10)
def test_a_pipe_is_refused_and_not_waited_for(path):
    os.mkfifo(path)
    refuse(path, "not a file")


def test_a_file_of_another_program_is_refused(path):
    path.write_bytes(save({"weight": torch.zeros(3)}))
    refuse(path, "another program")
    path.write_bytes(save({"weight": torch.zeros(3)}, {"format": "pt"}))
    refuse(path, "another program")


# ------------------------------------------------------------------------------- lying files


def rewrite(path, tensors=None, **metadata):
    """Save a good model and write it again with changes; None removes an entry."""
    save_model(make_model(batch_norm=True), path)
    good_tensors, good_metadata = contents(path)
    merged_tensors = {**good_tensors, **(tensors or {})}
    merged = {**good_metadata, **metadata}
    path.write_bytes(
        save(
            {name: tensor for name, tensor in merged_tensors.items() if tensor is not None},
            {name: value for name, value in merged.items() if value is not None},
        )
    )


def test_rewriting_without_changes_is_accepted(path):
    rewrite(path)  # or the refusals below would prove nothing
    assert equal(load_model(path), make_model(batch_norm=True))


@pytest.mark.parametrize("written", ["2", "0", "", "one", None, "9" * 5000])
def test_an_unknown_version_is_refused(path, written):
    rewrite(path, format_version=written)
    refuse(path, "update napari-unet")


@pytest.mark.parametrize(
    "config", [None, "", "{", "[" * 100_000, "1" * 5000, '"\\ud800"', "null", "[]", "3", "{}"]
)
def test_a_configuration_that_cannot_be_read_is_refused(path, config):
    rewrite(path, config=config)
    refuse(path, "configuration|JSON")


@pytest.mark.parametrize(
    "change",
    [
        {"depth": 10**9},
        {"depth": 7},
        {"depth": -1},
        {"base_channels": 10**12},
        {"base_channels": 513},
        {"in_channels": 10**9},
        {"classes": 10**9},
        {"depth": "2"},
        {"depth": [2]},
        {"batch_norm": "__import__('os')"},
        {"dropout": float("nan")},
        {"unknown": 1},
        {"x" * 10_000: 1},
    ],
)
def test_a_hostile_configuration_is_refused(path, change):
    config = {**make_model(batch_norm=True).config.to_dict(), **change}
    rewrite(path, config=json.dumps(config))
    refuse(path, "possible|unknown")


@pytest.mark.parametrize(
    "change",
    [
        {"depth": 3},
        {"depth": 1},
        {"base_channels": 4},
        {"in_channels": 3},
        {"classes": 3},
        {"batch_norm": False},
    ],
)
def test_a_configuration_that_does_not_fit_the_tensors_is_refused(path, change):
    config = {**make_model(batch_norm=True).config.to_dict(), **change}
    rewrite(path, config=json.dumps(config))
    refuse(path, "damaged, .* (instead of|is missing)")


def test_the_largest_claim_allocates_nothing(path):
    config = UNetConfig(1024, 255, 512, 6, batch_norm=True)  # 500 GB of weights
    rewrite(path, config=json.dumps(config.to_dict()))
    refuse(path, "damaged")
    peak = peak_memory(lambda: refuse(path, "damaged"))
    assert peak < 50e6


def test_a_header_that_claims_large_tensors_allocates_nothing(path):
    header = {"weight": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(64))
    assert peak_memory(lambda: refuse(path, "cut off, damaged")) < 50e6
    path.write_bytes(struct.pack("<Q", 2**62) + text)
    assert peak_memory(lambda: refuse(path, "cut off, damaged")) < 50e6


def peak_memory(call):
    """Return how many bytes Python took at most; an allocation by torch would be an error."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"output.weight": None}, "'output.weight' is missing"),
        ({"more": torch.zeros(2)}, "'more' is missing or does not belong"),
        ({"output.bias": torch.zeros(3)}, r"output.bias is F32 \(3,\) instead of F32 \(2,\)"),
        ({"output.bias": torch.zeros(1, 2)}, r"\(1, 2\) instead of"),
        ({"output.bias": torch.zeros(2).double()}, "F64 .* instead of F32"),
        ({"output.bias": torch.zeros(2).bfloat16()}, "BF16 .* instead of F32"),
        ({"output.bias": torch.zeros(2, dtype=torch.int32)}, "I32 .* instead of F32"),
        ({"output.bias": torch.tensor([0, torch.nan])}, "output.bias are not finite"),
        ({"output.bias": torch.tensor([0, -torch.inf])}, "output.bias are not finite"),
        ({"bottom.1.running_var": -torch.ones(8)}, "running_var are negative"),
    ],
)
def test_tensors_that_are_not_the_network_s_are_refused(path, change, match):
    rewrite(path, change)
    refuse(path, match)


# ------------------------------------------------------------------------------- damaged files


@pytest.fixture(scope="module")
def good_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "model.safetensors"
    save_model(make_model(batch_norm=True, depth=1), path)
    return path.read_bytes()


def loads_alike_or_is_refused(folder, data):
    path = folder / "damaged.safetensors"
    path.write_bytes(data)
    try:
        loaded = load_model(path)
    except InputError:
        return False
    expected = make_model(batch_norm=True, depth=1).state_dict()
    found = loaded.state_dict()
    shapes = [{name: t.shape for name, t in state.items()} for state in (expected, found)]
    assert shapes[0] == shapes[1]
    assert all(torch.isfinite(t).all() for t in found.values())
    return True


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_off_anywhere_is_refused(tmp_path, good_bytes, share):
    assert not loads_alike_or_is_refused(tmp_path, good_bytes[: int(share * len(good_bytes))])


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_flipped_bits_are_refused_or_leave_a_network(tmp_path, good_bytes, data):
    damaged = bytearray(good_bytes)
    header_end = 8 + int.from_bytes(good_bytes[:8], "little")
    # Half of the flips in the header, which is where the claims are.
    positions = st.integers(0, header_end - 1) | st.integers(0, len(damaged) - 1)
    for position, mask in data.draw(
        st.lists(st.tuples(positions, st.integers(1, 255)), min_size=1, max_size=4)
    ):
        damaged[position] ^= mask
    loads_alike_or_is_refused(tmp_path, bytes(damaged))


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=300), cut=st.integers(0, 1500))
def test_noise_spliced_in_is_refused_or_leaves_a_network(tmp_path, good_bytes, data, cut):
    spliced = good_bytes[:cut] + data + good_bytes[cut + len(data) :]
    assert loads_alike_or_is_refused(tmp_path, spliced) or spliced != good_bytes


def test_bytes_after_the_end_are_refused(tmp_path, good_bytes):
    assert loads_alike_or_is_refused(tmp_path, good_bytes)
    assert not loads_alike_or_is_refused(tmp_path, good_bytes + b"more")
