import numpy as np
import pytest

from segkit.kernels.growable import doubled, enlarged


@pytest.mark.parametrize("shape", [(3,), (3, 2)])
def test_rows_are_kept_and_there_is_room_for_as_many_again(shape):
    array = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    for larger, used in [(enlarged(array, 2), 2), (doubled(array), 3)]:
        assert larger.shape == (6, *shape[1:]) and larger.dtype == array.dtype
        assert larger[:used].tolist() == array[:used].tolist() and not np.shares_memory(larger, array)


def test_records_grow_too():
    records = np.array([(1, 2.5), (3, 4.5)], [("count", "i4"), ("score", "f8")])
    larger = doubled(records)
    assert larger.dtype == records.dtype and larger[:2].tolist() == records.tolist() and len(larger) == 4
