"""Head-to-head: interchangeable components on the same input, each in a fresh process of its own.

What is measured, and how:

- One call warms up (it compiles, reads Numba's cache, allocates); `repeat` calls are timed. `seconds` is the wall time
  of the call in the middle (the lower of two), and `cpu_seconds` and `phases` are those of the same call. CPU time is
  that of all threads of the process. Phases are the ones that the component names (:mod:`segkit.timing`), the
  benchmark's own "relabelling", and "other", the rest; they sum to `seconds`.
- `compile_seconds`: the first call minus the median of the timed ones, 0 if that is negative.
- `peak_bytes`: the highest resident memory of the process during the timed calls (VmHWM of /proc/self/status, set back
  after the warm-up by way of /proc/self/clear_refs), minus what was resident before the first call with the component
  imported and its inputs loaded. Where the system cannot set it back, the highest since the process began counts.
  Compiling leaves some memory behind, so figures from a second run, when Numba's cache is full, are the right ones.
- Agglomerators are charged for their tree and for one segmentation at each threshold ("relabelling"), each written in
  full and given up before the next, whose memory it becomes.

Reading inputs and comparing results is outside the time.
"""

from segkit.benchmark.components import VERBS, benchmark
from segkit.benchmark.contenders import Contender, contenders
from segkit.benchmark.loss import Cubes, benchmark_losses
from segkit.benchmark.process import Limits

__all__ = ["VERBS", "Contender", "Cubes", "Limits", "benchmark", "benchmark_losses", "contenders"]
