"""What is made of the runs of two versions, and of margins."""

import margins
import network


def test_versions_run_in_turn_and_the_ratio_is_of_medians(monkeypatch):
    seconds, order = {"a": [9.0, 8.0, 30.0], "b": [3.0, 99.0, 2.0]}, []

    def run(name, *words):
        order.append(name)
        return {"seconds": seconds[name].pop(0), "system": 1.0, "peak_bytes": 5, "printed": ""}

    monkeypatch.setattr(network, "run", run)
    found = network.compared({"before": ("a", "infer"), "now": ("b", "infer")}, 3)
    assert order == ["a", "b"] * 3
    assert found["before"]["seconds"] == 9.0 and found["before"]["times_faster"] == 1.0
    assert found["now"]["seconds"] == 3.0 and found["now"]["times_faster"] == 3.0


def test_the_table_has_borders_and_insides():
    row = {"margin": [8, 16, 16], "about": "1 tiles", "differs": 0.01, "score": 0.5}
    results = {
        "data": "a.h5",
        "inside": 0.75,
        "test": "0:9",
        "border_rows": [row | {"quarters": 0.25}],
        "inside_rows": [row],
    }
    text = margins.table(results)
    assert "| 8 x 16 x 16 | border | 1 tiles | 0.0100 | 0.500 | 0.250 |" in text
    assert "| 8 x 16 x 16 | inside | 1 tiles | 0.0100 | 0.500 |  |" in text
