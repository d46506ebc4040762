"""Versions below which packages that are served with have a known vulnerability, and which of them are installed.

The table is checked by hand against the advisories it names and holds nothing else: a package that is not in it is not
thereby sound. pyproject.toml's ranges keep above it, so an older one comes with an environment that was changed since.
Knows no network: asking for new advisories is the operator's scanner's work.
"""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from packaging.version import Version

Installed = Callable[[str], str]


class Advisory(NamedTuple):
    """`fixed` is the first version without it."""

    package: str
    fixed: str
    names: str
    what: str


ADVISORIES = (
    Advisory("h11", "0.16.0", "CVE-2025-43859, GHSA-vqfr-h8mv-ghfj", "chunked bodies read leniently: smuggling"),
    Advisory("idna", "3.15", "CVE-2026-45409, GHSA-65pc-fj4g-8rjx", "a long name takes for ever"),
    Advisory("jinja2", "3.1.6", "CVE-2025-27516, GHSA-cpwx-vrp4-4pq7", "a template leaves the sandbox"),
    Advisory("python-multipart", "0.0.31", "GHSA-v9pg-7xvm-68hf", "a negative length: the whole body in memory"),
    Advisory("starlette", "1.3.1", "CVE-2026-54283, GHSA-82w8-qh3p-5jfq", "limits on forms are passed over"),
    Advisory("torch", "2.10.0", "CVE-2026-24747, GHSA-63cw-57p8-fm3p", "a checkpoint writes memory"),
    Advisory("transformers", "5.3.0", "CVE-2026-4372, GHSA-29pf-2h5f-8g72", "a config.json runs code from elsewhere"),
)
"""In the order of their names; of several advisories on one package, the one fixed last."""


class Outdated(NamedTuple):
    """A package that is installed in a version with a known vulnerability."""

    advisory: Advisory
    installed: str


def outdated(installed: Installed = version) -> list[Outdated]:
    """Those of the table that are installed too old; `installed` raises PackageNotFoundError as importlib does."""
    found = []
    for advisory in ADVISORIES:
        try:
            there = installed(advisory.package)
        except PackageNotFoundError:
            continue
        if Version(there) < Version(advisory.fixed):
            found.append(Outdated(advisory, there))
    return found
