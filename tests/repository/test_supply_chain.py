"""The check of dependencies is itself checked."""

import os
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_a_seeded_advisory_fails_the_check():
    run = subprocess.run([ROOT / "scripts/advisories.sh", "selftest"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "a seeded advisory fails the check" in run.stdout


def test_a_crate_that_leaks_keys_by_time_is_neither_locked_nor_allowed(tmp_path):
    """V37: `rsa` (Marvin). A workspace that depends on a crate of that name fails the check by the ban, and without it passes."""
    assert not re.search(r'^name = "rsa"$', (ROOT / "Cargo.lock").read_text(), re.MULTILINE)

    def package(name, dependencies=""):
        folder = tmp_path / name
        (folder / "src").mkdir(parents=True)
        (folder / "src" / "lib.rs").write_text("")
        (folder / "Cargo.toml").write_text(
            f'[package]\nname = "{name}"\nversion = "0.9.0"\nedition = "2024"\nlicense = "MIT"\npublish = false\n[dependencies]\n{dependencies}'
        )
        return folder / "Cargo.toml"

    def banned(manifest):
        environment = {**os.environ, "PATH": f"{ROOT}/target/tools/bin:{os.environ['PATH']}"}
        argv = ["cargo", "deny", "--color", "never", "--offline", "--config", ROOT / "deny.toml", "--manifest-path", manifest, "check", "-A", "unused-wrapper", "bans"]
        done = subprocess.run(argv, capture_output=True, text=True, env=environment)
        return done.returncode, done.stdout + done.stderr

    package("rsa")
    code, said = banned(package("seeded", 'rsa = { path = "../rsa", version = "0.9.0" }\n'))
    assert code != 0 and "RUSTSEC-2023-0071" in said, said
    code, said = banned(package("clean"))
    assert code == 0, said
