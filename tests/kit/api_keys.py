"""An Elasticsearch that can store API keys: our distribution, with the analyzer that their index asks for."""

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

from agents.local import ELASTICSEARCH_VERSION
from agents.local.downloads import Artifact, fetch, locked, unpack
from agents.local.servers import java_home

SOURCE = Path(__file__).with_name("EmailAnalysis.java")
COMPILER = Artifact(
    coordinate="org.eclipse.jdt:ecj:3.46.0:jar",
    sha256="d0d43f8e2d7003e5efed612e2cbb5f01870043397d8f1bbe536fd9128f4fcbf7",
    bytes=3_370_586,
)
"""A Java compiler in one jar: the Java that comes as a wheel only runs."""
DESCRIPTOR = f"""\
name=email-analysis
description=the analyzer of the index of API keys
version=1
elasticsearch.version={ELASTICSEARCH_VERSION}
java.version=21
classname=penstock.test.EmailAnalysis
"""


def cache_with_api_keys(cache: Path, made: Path) -> Path:
    """Make `made` a cache folder for `penstock local up`: downloads of `cache`, and a distribution with the plugin."""
    (archive,) = fetch(locked("elasticsearch", ELASTICSEARCH_VERSION), cache, lambda *_: None)
    (compiler,) = fetch([COMPILER], cache, lambda *_: None)
    distribution = made / unpack(archive, cache).name
    made.mkdir()
    (made / "artifacts").symlink_to(cache / "artifacts")
    shutil.copytree(cache / distribution.name, distribution)

    classes = made / "classes"
    jars = os.pathsep.join(map(str, (distribution / "lib").glob("*.jar")))
    java = java_home() / "bin" / "java"
    subprocess.run([java, "-jar", compiler, "-21", "-cp", jars, "-d", classes, SOURCE], check=True)
    plugin = distribution / "plugins" / "email-analysis"
    plugin.mkdir(parents=True)
    (plugin / "plugin-descriptor.properties").write_text(DESCRIPTOR)
    with zipfile.ZipFile(plugin / "email-analysis.jar", "w") as jar:
        for path in classes.rglob("*.class"):
            jar.write(path, path.relative_to(classes))
    return made
