"""Floors worked by hand, operations of networks whose number is known otherwise, and the rates of a machine."""

import floors
import pytest
from floors import Work, operations, rates, work
from torch import nn

INPUTS = {"shape": [2, 3, 4], "fragments": {"ws": 5, "xy": 2}, "stored": 100}
"""24 voxels: affinities of 288 bytes, labels of 192."""


@pytest.mark.parametrize(
    ("function", "options", "moved"),
    [
        ("segkit_read", {}, 100 + 288),
        ("segkit_write", {}, 100 + 288),
        ("segkit_fragment", {}, 288 + 192),
        ("segkit_tree", {"fragments": "ws"}, 288 + 192 + 5 * 32),
        ("segkit_agglomerate", {"fragments": "ws"}, 288 + 192 + 5 * 32 + 9 * 192),
        ("segkit_segment", {}, 192 + 2 * 32 + 192),
        ("segkit_scores", {}, 2 * 192),
        ("segkit_sweep", {}, 2 * 192 + 2 * 32),
        ("segkit_malis", {}, 288 + 192 + 288),
    ],
)
def test_bytes(function, options, moved):
    assert work(function, options, INPUTS) == Work(moved)


def test_every_stage_has_a_floor_and_no_other_package():
    from growth import STAGES
    from peers import contests

    assert {stage.function for stage in STAGES} - set(floors.FORMULAS) == {"random_look_ups"}
    entrants = [entrant for contest in contests() for entrant in contest.entrants]
    assert {contest.entrants[0].function for contest in contests()} <= set(floors.FORMULAS)
    assert all(work(each.function, each.options, INPUTS) is None for each in entrants if each.name != "segkit")


def test_the_small_network():
    """Of 4 features 2 * 27 (1 * 4 + 4 * 4 + 8 * 4 + 4 * 4) a voxel; the other levels have an eighth and a 64th."""
    fine = 2 * 27 * (4 + 16 + 32 + 16)
    middle = 2 * 27 * (32 + 64 + 128 + 64) / 8
    coarse = 2 * 27 * (128 + 256) / 64
    upwards = 2 * (8 * 4 + 16 * 8 / 8)  # a voxel of the coarse level reaches each of the fine one once
    last = 2 * 4 * 3
    found = work("segkit_infer", {}, INPUTS | {"shape": [8, 16, 16]})
    assert found == Work(13 * 2048, round(2048 * (fine + middle + coarse + upwards + last)))


def test_operations():
    """4^3 voxels, 3^3 taps, 1 feature to 2: 2 * 64 * 27 * 2. U-Net MALA: 0.73 and 3.35 TFLOP, as its users have it."""
    assert operations(lambda: nn.Conv3d(1, 2, 3, padding=1), (4, 4, 4)) == 6912
    assert operations(lambda: nn.Conv3d(1, 2, 3), (4, 4, 4)) == 2 * 8 * 27 * 2
    from segkit.models.unet3d import UNet3D

    assert operations(UNet3D, (84, 268, 268)) == pytest.approx(0.73e12, rel=0.01)
    assert operations(UNet3D, (84, 430, 430)) == pytest.approx(3.35e12, rel=0.01)


def test_the_slower_of_both_is_the_floor():
    machine = {"bandwidth": 10.0, "float32": 100.0}
    assert Work(20, 100).seconds(machine) == 2.0 and Work(20, 100).bound(machine) == "bytes"
    assert Work(20, 900).seconds(machine) == 9.0 and Work(20, 900).bound(machine) == "operations"


def test_rates():
    import torch

    before = torch.get_num_threads()
    try:
        found = rates(threads=1, elements=1024, size=16, repeat=1)
    finally:
        torch.set_num_threads(before)
    assert set(found) == {"bandwidth", "float32", "bfloat16"} and min(found.values()) > 0
