#!/usr/bin/env python3
"""Writes what a program is made of, as CycloneDX 1.6: sbom.py adit|adit-network > FILE

From `cargo tree` (what is built for this program and target, with its features, and nothing of the tests), `cargo metadata` (licences, sources) and
Cargo.lock (digests). C code that comes inside a crate, and the C library of a static program, are components of their own. The same sources
give the same file.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib

TARGET = os.environ.get("TARGET", "x86_64-unknown-linux-musl")
# Crates that carry the source of something that is not Rust: what it is, and the file of the crate that says which version.
CARRIED = {
    "aws-lc-sys": ("aws-lc", "aws/aws-lc", "ISC AND (Apache-2.0 OR ISC)", ("aws-lc/include/openssl/base.h", r'#define AWSLC_VERSION_NUMBER_STRING "([^"]+)"')),
    "libsqlite3-sys": ("sqlite", "sqlite/sqlite", "blessing", ("sqlite3/sqlite3.h", r'#define SQLITE_VERSION +"([^"]+)"')),
}


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments], check=True, capture_output=True, text=True).stdout


def tree(program):
    """Name and version of everything that is in the program or makes it."""
    listed = cargo("tree", "--locked", "-p", program, "-e", "normal,build", "--target", TARGET, "--prefix", "none", "--format", "{p}")
    return {tuple(line.split()[:2]) for line in listed.splitlines() if line}


def digests():
    with open("Cargo.lock", "rb") as lock:
        return {(one["name"], one["version"]): one.get("checksum") for one in tomllib.load(lock)["package"]}


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, digest):
    own = package["source"] is None
    entry = {
        "type": "application" if own and package["name"] in ("adit", "adit-network") else "library",
        "bom-ref": reference(package),
        "name": package["name"],
        "version": package["version"],
        "purl": reference(package),
        "scope": "required",
    }
    if package["description"]:
        entry["description"] = " ".join(package["description"].split())
    if digest:
        entry["hashes"] = [{"alg": "SHA-256", "content": digest}]
    if package["license"]:
        entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    if package["repository"]:
        entry["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return entry


def carried(package):
    """The component whose source comes inside a crate, if it is such a crate."""
    known = CARRIED.get(package["name"])
    if known is None:
        return None
    name, repository, license, (file, pattern) = known
    with open(os.path.join(os.path.dirname(package["manifest_path"]), file), encoding="utf-8") as header:
        version = re.search(pattern, header.read()).group(1)
    purl = f"pkg:github/{repository}@{version}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, "scope": "required", "licenses": [{"expression": license}]}


def bill(program):
    metadata = json.loads(cargo("metadata", "--format-version", "1", "--locked", "--filter-platform", TARGET))
    there = tree(program)
    packages = {one["id"]: one for one in metadata["packages"] if (one["name"], f"v{one['version']}") in there}
    known = digests()
    root = next(one for one in packages.values() if one["name"] == program)
    components, dependencies = [], []
    for node in metadata["resolve"]["nodes"]:
        package = packages.get(node["id"])
        if package is None:
            continue
        needs = [reference(packages[edge["pkg"]]) for edge in node["deps"] if edge["pkg"] in packages and any(kind["kind"] != "dev" for kind in edge["dep_kinds"])]
        inside = carried(package)
        if inside:
            components.append(inside)
            needs.append(inside["bom-ref"])
        if package is not root:
            components.append(component(package, known.get((package["name"], package["version"]))))
        if package is root and TARGET.endswith("-musl"):
            # The C library that comes with the target of Rust, which links it in.
            toolchain = subprocess.run(["rustc", "--version"], check=True, capture_output=True, text=True).stdout.split()[1]
            musl = {"type": "library", "bom-ref": "musl", "name": "musl", "scope": "required", "licenses": [{"expression": "MIT"}]}
            musl["description"] = f"as in Rust {toolchain} for {TARGET}"
            components.append(musl)
            needs.append("musl")
        dependencies.append({"ref": reference(package), "dependsOn": sorted(set(needs))})
    components.sort(key=lambda one: one["bom-ref"])
    dependencies.sort(key=lambda one: one["ref"])
    content = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": component(root, None), "properties": [{"name": "target", "value": TARGET}]},
        "components": components,
        "dependencies": dependencies,
    }
    # A name that follows from the content.
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    name = f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"
    return {**content, "serialNumber": f"urn:uuid:{name}"}


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    json.dump(bill(sys.argv[1]), sys.stdout, indent=1, ensure_ascii=False)
    print()


main()
