"""The command line trains with MONAI's network and loss, and predicts with what it trained."""

from click.testing import CliRunner
from segkit import io
from segkit.cli.main import main
from segkit.testing import neurites


def test_two_steps_and_a_prediction(tmp_path):
    phantom = neurites((12, 32, 32), count=6, seed=3)
    data, run, out = tmp_path / "data.h5", tmp_path / "run", tmp_path / "affinities.h5"
    io.write_all(data, {"raw": phantom.raw, "truth": phantom.truth})
    small = ["--set", "model.features=[4,8]", "--set", "model.strides=[[1,2,2]]", "--set", "patch=[4,16,16]"]
    train = ["train", str(data), "--model", "monai-unet", "--loss", "monai-dice", "--steps", "2", "--out", str(run)]
    for command in ([*train, *small], ["infer", str(data), "--run", str(run), "--out", str(out)]):
        result = CliRunner().invoke(main, [*command, "--device", "cpu"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    affinities = io.read_affinities(out)
    affinities.check()
    assert affinities.shape == phantom.raw.shape
