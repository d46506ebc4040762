"""The kind of file system a path is on, by a table like Linux's."""

from pathlib import Path

import pytest

from prompt_store.mounts import file_system

TABLE = r"""22 1 0:21 / / rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
23 22 0:22 / /proc rw - proc proc rw
24 22 8:1 / /data rw,relatime shared:1 - ext4 /dev/sda1 rw
25 24 0:23 / /data/a\040b rw - xfs /dev/sdb1 rw
26 22 8:2 / /twice rw - ext4 /dev/sdc1 rw
27 26 0:24 / /twice rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/store", "overlay"),
        ("/data", "ext4"),
        ("/data/store/blobs", "ext4"),
        ("/database", "overlay"),
        ("/data/a b/store", "xfs"),
        ("/twice/x", "tmpfs"),
    ],
)
def test_the_deepest_and_latest_mount_counts(tmp_path: Path, path: str, kind: str) -> None:
    """By whole names, with what the table writes as octal digits."""
    table = tmp_path / "mountinfo"
    table.write_text(TABLE, encoding="utf-8")
    assert file_system(Path(path), table) == kind
    assert file_system(Path(path), tmp_path / "none") is None
