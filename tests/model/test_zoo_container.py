"""What lies in a package from a stranger is read within bounds, and never beside it."""

import stat
import struct
import zipfile

import pytest
from strange_packages import write_folder, write_zip

from napari_unet.model.zoo.container import open_container
from napari_unet.ops.errors import InputError

FILES = {"rdf.yaml": b"name: x", "weights.onnx": b"1234"}


@pytest.fixture(params=["folder", "zip"])
def package(request, tmp_path):
    if request.param == "zip":
        return open_container(write_zip(tmp_path / "package.zip", FILES))
    return open_container(write_folder(tmp_path / "package", FILES))


def test_files_are_found_and_read(package):
    assert package.names() == set(FILES)
    assert package.read("./weights.onnx", 4) == b"1234"


def test_a_file_is_never_read_beyond_its_limit(package):
    with pytest.raises(InputError, match="more than 3 bytes"):
        package.read("weights.onnx", 3)


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/../../b", "C:\\secret", "c:secret", "", "a\0b", "..\\x"]
)
def test_no_name_leads_out_of_the_package(package, tmp_path, name):
    (tmp_path / "secret").write_bytes(b"secret")
    with pytest.raises(InputError, match="does not lie in it"):
        package.read(name, 100)


def test_a_missing_file_is_named(package):
    with pytest.raises(InputError, match="holds no 'other'"):
        package.read("other", 100)


def test_links_are_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    folder = write_folder(tmp_path / "package", FILES)
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "inside").symlink_to(tmp_path)
    for name in ("link", "inside/secret"):
        with pytest.raises(InputError, match="symbolic link"):
            open_container(folder).read(name, 100)


@pytest.mark.parametrize("name", ["../evil", "/evil", "a\\..\\evil"])
def test_a_zip_with_a_name_that_leads_out_is_refused(tmp_path, name):
    path = write_zip(tmp_path / "package.zip", {**FILES, name: b"x"})
    with pytest.raises(InputError, match="does not lie in it"):
        open_container(path)


def test_a_link_in_a_zip_is_refused(tmp_path):
    path = tmp_path / "package.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InputError, match="symbolic link"):
        open_container(path)


def test_two_files_of_one_name_are_refused(tmp_path):
    path = tmp_path / "package.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rdf.yaml", b"good")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("rdf.yaml", b"bad")
    with pytest.raises(InputError, match="two files of one name"):
        open_container(path)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = write_zip(tmp_path / "package.zip", {"weights.onnx": bytes(2**24)})
    with pytest.raises(InputError, match="would unpack"):
        open_container(path)


def test_a_bomb_that_lies_about_its_size_ends_at_the_limit(tmp_path):
    path = write_zip(tmp_path / "package.zip", {"weights.onnx": bytes(2**20)})
    contents = path.read_bytes()
    real, claimed = struct.pack("<L", 2**20), struct.pack("<L", 100)
    path.write_bytes(contents.replace(real, claimed))
    container = open_container(path)
    with pytest.raises(InputError):
        container.read("weights.onnx", 1000)


@pytest.mark.parametrize("contents", [b"", b"PK", b"PK\5\6" + bytes(18), b"text" * 1000])
def test_what_is_no_zip_is_refused(tmp_path, contents):
    path = tmp_path / "package.zip"
    path.write_bytes(contents)
    try:
        found = open_container(path).names()
    except InputError:
        return
    assert not found  # a zip may be empty


def test_a_directory_of_gigabytes_is_refused(tmp_path):
    path = write_zip(tmp_path / "package.zip", FILES)
    contents = bytearray(path.read_bytes())
    end = contents.rfind(b"PK\5\6")
    contents[end + 12 : end + 16] = struct.pack("<L", 2**31)
    path.write_bytes(contents)
    with pytest.raises(InputError, match="more than"):
        open_container(path)


def test_a_pipe_and_a_missing_path_are_refused(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "nothing", "a\0b"):
        with pytest.raises(InputError):
            open_container(tmp_path / name)
