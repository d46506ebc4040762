"""What is served with, as CycloneDX 1.6 and as a list of licences: `make sbom` writes both into build/.

    python -m requirements.sbom [folder]

The packages are those of serve.txt that are installed here, and torch. Versions and licences are what is installed
says, sums what the lock has: every file of that version, since an installed package does not know which it came from.
torch remembers its file. Knows no network.
"""

import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

HERE = Path(__file__).resolve().parent
PIN = re.compile(r"^([\w.-]+)==", re.MULTILINE)
BUILD = {"editables", "hatchling", "pathspec", "pluggy", "tomlkit", "trove-classifiers"}
"""In serve.txt since they build this project, not served with."""


def locked(name: str) -> dict[str, set[str]]:
    """Package -> sha256 of the files of its version, from one lock file."""
    blocks = re.split(r"\n(?=\S)", (HERE / f"{name}.txt").read_text(encoding="utf-8"))
    pinned = ((match[1], block) for block in blocks if (match := PIN.match(block)))
    return {package: set(re.findall(r"sha256:([0-9a-f]{64})", block)) for package, block in pinned}


def served() -> Iterator[tuple[Distribution, set[str]]]:
    """Every package that is served with and installed, with the sums that it may have come by."""
    for name, sums in sorted({**locked("serve"), **locked("torch")}.items()):
        if name in BUILD:
            continue
        try:
            there = distribution(name)
        except PackageNotFoundError:  # another platform's
            continue
        yield there, own_sums(there) or sums


def own_sums(there: Distribution) -> set[str]:
    """What pip noted of the file that a package was installed from, where it was given a file."""
    noted = json.loads(there.read_text("direct_url.json") or "{}").get("archive_info", {})
    return {
        value.removeprefix("sha256=") for value in [noted.get("hash"), noted.get("hashes", {}).get("sha256")] if value
    }


def licence(there: Distribution) -> str:
    """As the package states it: an SPDX expression, else a short name, else its classifiers."""
    stated = there.metadata
    short = next((stated[name] for name in ("License-Expression", "License") if name in stated), "")
    if short.strip() and len(short) <= 100 and "\n" not in short:
        return short.strip()
    classified = [
        line.rsplit("::", 1)[1].strip() for line in stated.get_all("Classifier") or () if line.startswith("License ::")
    ]
    return " AND ".join(classified)


def component(there: Distribution, sums: set[str]) -> Component:
    name = re.sub(r"[-_.]+", "-", there.metadata["Name"]).lower()
    purl = PackageURL("pypi", None, name, there.version)
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(f"https://pypi.org/project/{name}/{there.version.partition('+')[0]}/"),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=value) for value in sums],
    )
    stated = licence(there)
    return Component(
        type=ComponentType.LIBRARY,
        name=name,
        version=there.version,
        purl=purl,
        bom_ref=str(purl),
        licenses=[LicenseFactory().make_from_string(stated)] if stated else [],
        external_references=[files],
    )


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build")
    folder.mkdir(parents=True, exist_ok=True)
    bom = Bom()
    product = distribution("softprompt-server")
    bom.metadata.component = Component(
        type=ComponentType.APPLICATION,
        name="softprompt-server",
        version=product.version,
        licenses=[LicenseFactory().make_from_string(licence(product))],
    )
    found = list(served())
    for each in found:
        part = component(*each)
        bom.components.add(part)
        bom.register_dependency(bom.metadata.component, [part])
    (folder / "sbom.json").write_text(JsonV1Dot6(bom).output_as_string(indent=1) + "\n", encoding="utf-8")
    lines = [f"{there.metadata['Name']} {there.version}: {licence(there)}\n" for there, _ in found]
    (folder / "licences.txt").write_text("".join(lines), encoding="utf-8")
    sys.stdout.write(f"{len(found)} packages: {folder / 'sbom.json'}, {folder / 'licences.txt'}\n")


if __name__ == "__main__":
    main()
