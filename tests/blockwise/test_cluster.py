"""What --cluster may name. Batch systems are stood in for by commands that run what they are given at once."""

import os
import re
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from fault_tasks import Squares, check, runs, stage

from segkit.blockwise import batch
from segkit.blockwise.batch import Jobs, read_settings
from segkit.blockwise.cluster import SCRATCH, open_executor, scratch
from segkit.blockwise.engine import Inline, run_stage
from segkit.errors import BrokenComponent, ClusterUnavailable, InvalidParameter, MissingFile

pytestmark = pytest.mark.timeout(300)
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "cluster.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_no_cluster_is_this_process():
    with open_executor(None) as executor:
        assert isinstance(executor, Inline) and executor.threads is None
    assert open_executor(None, 2).threads == 2


@pytest.mark.parametrize(
    "spec", ["local:0", "local:", "local:two", "local:-1", "local", "8", "http://a:1", "slurm", ""]
)
def test_what_names_no_cluster_is_refused(spec):
    with pytest.raises(InvalidParameter, match=r"cluster must be .*local:"):
        open_executor(spec)


def test_processes_share_the_cores(tmp_path):
    class Environment(Squares):
        def run(self, number):
            from segkit.threads import thread_count

            super().run(number)
            names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
            ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            return {"threads": [thread_count(), *(int(os.environ[name]) for name in names)], "ignored": ignored}

    with open_executor("local:2", threads=6) as executor:
        report = run_stage(stage(Environment(tmp_path), 1), executor)
        assert str(executor) == "2 processes of this machine" and executor.workers == 2 and executor.room == 5
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/status", executor.dashboard)
    assert report.results == [{"threads": [3, 3, 3], "ignored": True}]


def test_what_a_killed_driver_has_left_in_the_folder_for_temporary_files_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / f"{SCRATCH}0-0123456789ab"
    (left / "dask-scratch-space").mkdir(parents=True)
    (tmp_path / "segkit-other").mkdir()
    with scratch() as first:
        Path(first, "file").touch()
        with scratch() as second:
            assert Path(first, "file").exists() and not left.exists()
        assert not Path(second).exists()
    assert [item.name for item in tmp_path.iterdir()] == ["segkit-other"]


def test_nobody_connects_to_processes_of_this_machine_without_their_credentials(tmp_path):
    from distributed import Client
    from distributed.security import Security

    with open_executor("local:1") as executor:
        address = executor._client.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        for wrong in (
            {"address": address.replace("tls", "tcp")},
            {"address": address, "security": Security.temporary()},
        ):
            with pytest.raises(OSError):
                Client(**wrong, timeout=3, set_as_default=False)
        workers = executor._client.scheduler_info()["workers"]
        addresses = [*workers, *(info["nanny"] for info in workers.values())]
        assert len(addresses) == 2 and all(each.startswith("tls://127.0.0.1:") for each in addresses)
        check(run_stage(stage(Squares(tmp_path)), executor), tmp_path)


def test_without_what_makes_credentials_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(BrokenComponent, match=r"needs Dask.*pip install 'segkit-em\[dask\]'"):
        open_executor("local:2")


def test_without_dask_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BrokenComponent, match=r"needs Dask.*pip install 'segkit-em\[dask\]'"):
        open_executor("local:2")


def test_without_dask_jobqueue_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(BrokenComponent, match=r"needs dask-jobqueue.*pip install 'segkit-em\[jobqueue\]'"):
        open_executor(written(tmp_path, "cluster: SLURMCluster\njobs: 1"))


def written(folder, text):
    path = folder / "cluster.yaml"
    path.write_text(text)
    return str(path)


REFUSED = {
    "cluster: [": "must be YAML",
    "cluster: &a [1]\njobs: *a": "must be YAML .*aliases",
    "- SLURMCluster": "must hold the keys cluster, jobs, arguments, wait",
    "": "must hold the keys",
    "jobs: 1": r"cluster.yaml: cluster must be given",
    "cluster: SLURMCluster": r"cluster.yaml: jobs must be given",
    "cluster: SLURMCluster\njobs: 0": "jobs must be a number from 1 on, not 0",
    "cluster: SLURMCluster\njobs: many": "jobs must be a number from 1 on, not 'many'",
    "cluster: SLURMCluster\njobs: 1.5": "jobs must be a number from 1 on, not 1.5",
    "cluster: SLURMCluster\njobs: true": "jobs must be a number from 1 on, not True",
    "cluster: SLURMCluster\njobs: 1\nwait: -1": "wait must be seconds, not -1",
    "cluster: SLURMCluster\njobs: 1\narguments: 7": "arguments must be a mapping, not 7",
    "cluster: SLURMCluster\njobs: 1\nworkers: 7": "workers must be one of cluster, jobs, arguments, wait",
    "cluster: SlurmCluster\njobs: 1": "cluster must be one of .*SLURMCluster.*, not SlurmCluster",
    "cluster: SLURMCluster\njobs: 1\narguments: {cores: 1, memory: 1GB, qeue: a}": "qeue",
    "cluster: SLURMCluster\njobs: 1\narguments: {cores: 1}": "do not fit SLURMCluster .*memory",
    "cluster: SLURMCluster\njobs: 1\narguments: {cores: 1, memory: plenty}": "do not fit SLURMCluster",
    "cluster: SLURMCluster\njobs: 1\narguments: {cores: few, memory: 1GB}": "do not fit SLURMCluster .*few",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text.replace("\n", "; ") or "empty")
def test_a_file_that_does_not_fit_is_refused(tmp_path, text):
    pytest.importorskip("dask_jobqueue")
    with pytest.raises(InvalidParameter, match=REFUSED[text]):
        open_executor(written(tmp_path, text))


def test_a_file_that_is_missing():
    with pytest.raises(MissingFile, match=r"cluster file nowhere\.yaml must exist"):
        open_executor("nowhere.yaml")


SBATCH = """#!/bin/sh
cp "$1" "{folder}/$$.sh"
setsid sh "{folder}/$$.sh" >"{folder}/$$.out" 2>&1 &
echo $! >>"{folder}/submitted"
echo "Submitted batch job $!"
"""
BSUB = """#!/bin/sh
cat >"{folder}/$$.sh"
setsid sh "{folder}/$$.sh" >"{folder}/$$.out" 2>&1 &
echo $! >>"{folder}/submitted"
echo "Job <$!> is submitted to queue <normal>."
"""
CANCEL = """#!/bin/sh
echo $1 >>"{folder}/cancelled"
kill -9 -- -$1
"""
SYSTEMS = {"SLURMCluster": (SBATCH, "sbatch", "scancel"), "LSFCluster": (BSUB, "bsub", "bkill")}


def batch_system(kind, folder, monkeypatch):
    """Puts commands of a batch system on the path; returns the folder in which they note what they do."""
    pytest.importorskip("dask_jobqueue")
    text, submit, cancel = SYSTEMS[kind]
    folder.mkdir()
    for name, program in ((submit, text), (cancel, CANCEL)):
        (folder / name).write_text(program.format(folder=folder))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.path.dirname(__file__), *sys.path]))
    return folder


FILE = """
cluster: {kind}
jobs: {jobs}
wait: 60
arguments:
  cores: 6
  processes: 2
  memory: 2GB
  interface: lo
  walltime: "00:10"
  log_directory: {folder}
  local_directory: {folder}
  worker_extra_args: ["--no-dashboard"]
  job_script_prologue: ["export OF_THE_USER=1"]
"""


@pytest.mark.skipif(not Path("/sys/class/net/lo").exists(), reason="needs Linux")
@pytest.mark.parametrize("kind", SYSTEMS)
def test_jobs_of_a_batch_system(tmp_path, monkeypatch, kind):
    folder = batch_system(kind, tmp_path / "system", monkeypatch)
    spec = written(tmp_path, FILE.format(kind=kind, jobs=1, folder=folder))
    with open_executor(spec) as executor:
        assert executor.patience.workers == 60 and executor.threads == 3
        assert str(executor) == f"{kind} of {spec} (1 job)"
        report = run_stage(stage(Squares(tmp_path, seconds=0.02)), executor)
    check(report, tmp_path)
    assert len({line.split()[1] for line in (tmp_path / "log").read_text().splitlines()}) <= 2
    script = next(folder.glob("*.sh")).read_text()
    assert re.search(r"--nthreads 3 .*--nworkers 2 .*--no-dashboard --nthreads 1", script), "the last one counts"
    assert re.search(r"OF_THE_USER=1\n(.*\n)*export NUMBA_NUM_THREADS=3\n", script)
    submitted = (folder / "submitted").read_text().split()
    assert (folder / "cancelled").read_text().split() == submitted and len(submitted) == 1


@pytest.mark.skipif(not Path("/sys/class/net/lo").exists(), reason="needs Linux")
def test_a_job_that_ends_is_submitted_again(tmp_path, monkeypatch):
    import dask

    folder = batch_system("SLURMCluster", tmp_path / "system", monkeypatch)
    text = FILE.format(kind="SLURMCluster", jobs=1, folder=folder).replace("processes: 2", "processes: 1")

    def end(progress):
        if progress.done == 3 and not progress.message:
            os.killpg(int((folder / "submitted").read_text().split()[0]), signal.SIGKILL)

    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"}),
        open_executor(written(tmp_path, text)) as executor,
    ):
        report = run_stage(stage(Squares(tmp_path, seconds=0.05), 8), executor, end)
    check(report, tmp_path, 8)
    assert len((folder / "submitted").read_text().split()) == 2 and len(runs(tmp_path)) <= 9


def test_a_batch_system_that_refuses(tmp_path, monkeypatch):
    folder = batch_system("SLURMCluster", tmp_path / "system", monkeypatch)
    (folder / "sbatch").write_text("#!/bin/sh\necho 'Invalid account' >&2\nexit 1\n")
    spec = written(tmp_path, FILE.format(kind="SLURMCluster", jobs=1, folder=folder))
    with pytest.raises(ClusterUnavailable, match=r"SLURMCluster of .* submits no job .*Invalid account"):
        open_executor(spec)
    (folder / "sbatch").unlink()
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(ClusterUnavailable, match=r"submits no job .*sbatch"):
        open_executor(spec)


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.split()[1])
def test_the_examples_of_the_documentation(tmp_path, monkeypatch, text):
    dask_jobqueue = pytest.importorskip("dask_jobqueue")
    monkeypatch.setattr(batch.Jobs, "keep_up", lambda self: None)
    monkeypatch.chdir(tmp_path)
    text = text.replace("interface: ib0", "interface: lo")
    jobs = Jobs(Path(written(tmp_path, text)))
    try:
        assert isinstance(jobs._cluster, dask_jobqueue.JobQueueCluster)
        settings = read_settings(tmp_path / "cluster.yaml")["arguments"]
        assert jobs.threads == settings["cores"] // settings.get("processes", 1)
        assert f"NUMBA_NUM_THREADS={jobs.threads}" in jobs._cluster.job_script()
    finally:
        jobs.close()


def test_the_documentation_has_examples_of_both_systems_and_names_all_keys():
    assert {text.split()[1] for text in EXAMPLES} == {"SLURMCluster", "LSFCluster"}
    for word in ("`cluster`", "`jobs`", "`arguments`", "`wait`", "local:", "tcp://", "tls://", ".json"):
        assert word in PAGE.read_text()
