"""segkit diagnose: the figures of a file, and what they mean."""

import json

import numpy as np
import pytest

from segkit import Affinities, io
from segkit.infer.oracle import oracle_affinities
from segkit.testing.phantoms import neurites


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diagnose")
    truth = neurites((24, 48, 48), count=10, seed=1).truth
    io.write_all(folder / "good.h5", {"affinities": oracle_affinities(truth), "truth": truth})
    io.write(folder / "grid.h5", oracle_affinities(truth, grid=6), "affinities")
    io.write(folder / "dead.h5", Affinities.convert(np.full((3, 24, 48, 48), 0.6, np.float32)), "affinities")
    return folder


def test_a_report_in_words(segkit, folder):
    result = segkit("diagnose", folder / "good.h5")
    assert result.exit_code == 0 and result.stdout.splitlines()[-1] == "healthy"
    assert all(word in result.stdout for word in ("channels", "agreements", "peaks", "variance", "fragments by"))
    assert "auc" not in result.stdout
    result = segkit("diagnose", folder / "dead.h5")
    assert result.exit_code == 0 and "uniform: channel z has variance 0 around 0.6" in result.stdout


def test_a_report_for_programs(segkit, folder):
    found = json.loads(segkit("diagnose", folder / "good.h5", "--labels", folder / "good.h5", "--json").stdout)
    assert found["healthy"] is True and found["verdict"] == []
    assert [channel["name"] for channel in found["channels"]] == ["z", "y", "x"]
    assert all(channel["auc"] > 0.8 for channel in found["channels"]) and found["objects"]["voi_split"] > 0
    found = json.loads(segkit("diagnose", folder / "grid.h5", "--stride", "1,6,12", "--json").stdout)
    assert found["healthy"] is False and {finding["kind"] for finding in found["verdict"]} == {"grid"}
    assert {(peak["axis"], peak["period"]) for peak in found["at_stride"]} == {("y", 6), ("x", 12)}


def test_the_fragmenter_may_be_chosen(segkit, folder):
    words = ["diagnose", folder / "good.h5", "--crop", 16, "--json"]
    first = json.loads(segkit(*words).stdout)["objects"]
    second = json.loads(segkit(*words, "--method", "watershed", "--set", "seed_distance=2").stdout)["objects"]
    assert first["shape"] == [16, 16, 16] and first["fragments"] < second["fragments"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["good.h5", "--stride", "27"], "--stride must be three positive sizes"),
        (["good.h5", "--stride", "1,0,1"], "1,27,27"),
        (["good.h5", "--stride", "a,b,c"], "--stride"),
        (["good.h5", "--labels", "dead.h5"], "dead.h5"),
        (["good.h5", "--method", "watershet"], "did you mean 'watershed'?"),
        (["god.h5"], "god.h5"),
    ],
)
def test_a_wrong_call_gets_one_sentence(segkit, folder, monkeypatch, words, said):
    monkeypatch.chdir(folder)
    result = segkit("diagnose", *words)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert result.exit_code == 2 and said in line and result.stdout == ""
