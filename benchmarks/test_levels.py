"""The table of what 8 bits cost."""

import levels

SCORES = dict.fromkeys(levels.SCORES, 0.25)


def test_the_table_says_where_thresholds_come_from():
    found = {"threshold": 0.1, "bytes": 4e6, "rows": [SCORES | {"threshold": at} for at in (0.1, 0.2, 0.3)]}
    text = levels.table({"data": "a.h5", "inside": 0.75, "test": "0:9", "scores": {"uint8": found}})
    assert "| uint8 | 4.0 | 0.1, the best in training | 0.2500 |" in text
    assert "0.2, that of float32" in text and "0.3, the best here" in text
