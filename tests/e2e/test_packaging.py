"""The packages: what they hold, and that the real dpkg installs, upgrades, removes and purges them, in a copy of this system that is thrown away.

They are made here of the programs that the other tests run, not of those that are handed out: `make deb` does the same with these, and asks lintian.
"""

import gzip
import json
import os
import re
import shutil
import stat
import subprocess

import pytest

from harness.deployment import AGENT, NETWORK, ROOT
from harness.process import run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="dpkg in a copy of this system needs root")


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Both packages, and the folder with what they were made of."""
    out = tmp_path_factory.mktemp("packages")
    made = {}
    for program, binary in (("adit", AGENT), ("adit-network", NETWORK)):
        stripped = out / "bin" / program
        stripped.parent.mkdir(exist_ok=True)
        run(["strip", "-o", stripped, binary])
        bill = run([ROOT / "packaging/sbom.py", program], env={"TARGET": "x86_64-unknown-linux-gnu"}).stdout
        (out / f"{program}.cdx.json").write_bytes(bill)
        # Fast, and not as small as it could be.
        env = {"OUT": str(out), "BINARY": str(stripped), "COMPRESSION": "gzip"}
        made[program] = run([ROOT / "packaging/deb.sh", program], env=env).stdout.decode().strip()
    return out, made


def test_the_real_dpkg_installs_removes_and_purges_them_and_starts_nothing_without_a_configuration(packages):
    _, made = packages
    done = run([ROOT / "packaging/check-deb.sh", *made.values()], env={"NO_LINTIAN": "1"}, deadline=300)

    for name in ("adit", "adit-network"):
        assert re.search(rf"^{name}_\S+: installed, ran, removed and purged$", done.stdout.decode(), re.M), done.stdout.decode()


def test_a_package_holds_nothing_that_others_may_write_and_no_configuration(packages):
    out, made = packages
    for name, file in made.items():
        listed = run(["dpkg-deb", "--contents", file]).stdout.decode().splitlines()
        for line in listed:
            mode, owner, path = line.split()[0], line.split()[1], line.split(maxsplit=5)[5]
            assert owner == "root/root" and mode[5] == "-" and mode[8] == "-" and "s" not in mode, line
            assert not re.fullmatch(r"\./etc/.*[^/]", path), f"{path} is the administrator's"
        bill = json.loads(gzip.decompress((out / f"deb/{name}/usr/share/doc/{name}/sbom.cdx.json.gz").read_bytes()))
        assert bill["metadata"]["component"]["name"] == name


def test_the_bill_of_materials_names_everything_that_is_built_in_with_licence_and_digest(packages):
    out, _ = packages
    for program in ("adit", "adit-network"):
        bill = json.loads((out / f"{program}.cdx.json").read_text())
        known = {(one["name"], f"v{one['version']}") for one in bill["components"] if one["purl"].startswith("pkg:cargo")}
        argv = ["cargo", "tree", "--locked", "-p", program, "-e", "normal", "--prefix", "none", "--format", "{p}", "--target", "x86_64-unknown-linux-gnu"]
        built = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
        built = {tuple(line.split()[:2]) for line in built if line} - {(program, f"v{bill['metadata']['component']['version']}")}
        assert built <= known, built - known
        for one in bill["components"]:
            assert one["licenses"], one
            assert one.get("hashes") or one["name"].startswith("adit") or one["name"] in ("aws-lc", "sqlite"), one
        assert any(one["name"] == "aws-lc" for one in bill["components"])
        names = {one["bom-ref"] for one in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
        assert all(need in names for edge in bill["dependencies"] for need in edge["dependsOn"])


def test_an_image_is_built_loaded_and_run_as_its_user_from_a_root_that_is_read_only(packages):
    out, _ = packages
    binary = out / "bin/adit"
    # What is handed out is static; the programs of the tests load glibc.
    loaded = re.findall(r"(/\S+) \(0x", run(["ldd", binary]).stdout.decode())
    env = {"OUT": str(out), "BINARY": str(binary), "LIBRARIES": " ".join(loaded), "NO_NAMES": "1"}
    made = run([ROOT / "packaging/image.sh", "adit"], env=env).stdout.decode()
    assert made == f"{out}/image/adit.tar\n"

    tried = run([ROOT / "packaging/try-image.sh", "adit"], env=env).stdout.decode()

    assert tried.startswith("adit 0.") and "as 65532:65532, without rights" in tried, tried
    shutil.rmtree(out / "image")


def test_what_goes_into_an_image_is_the_program_and_four_files(packages):
    out, _ = packages
    run([ROOT / "packaging/image.sh", "adit"], env={"OUT": str(out), "BINARY": str(out / "bin/adit")})

    root = out / "image/adit/rootfs"
    files = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert files == {"usr/bin/adit", "etc/passwd", "etc/group", "etc/ssl/certs/ca-certificates.crt"}
    assert not any(path.stat().st_mode & (stat.S_IWOTH | stat.S_ISUID | stat.S_ISGID) for path in root.rglob("*"))
    stages = (out / "image/adit/Dockerfile").read_text().split("FROM ")[1:]
    assert len(stages) == 2 and all(stage.startswith("scratch ") and "\nUSER 65532:65532\n" in stage for stage in stages)
    shutil.rmtree(out / "image")
