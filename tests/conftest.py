"""What tests in more than one folder need."""

import pytest
from click.testing import CliRunner


@pytest.fixture
def run():
    """Run the command line with these arguments, as in a shell."""
    # Here and not above: tests of the pure rooms do not load the command line.
    from napari_unet.cli import cli

    def invoke(*args):
        return CliRunner().invoke(cli, [str(arg) for arg in args])

    return invoke
