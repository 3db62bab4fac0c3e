"""Which disks are those of this machine."""

import pytest

from tomolive.files.places import is_local


@pytest.mark.parametrize(
    ("place", "local"),
    [
        ("scan.h5", True),
        ("a share/scan.h5", False),
        ("a share/scratch/scan.h5", True),
        ("auto/scan.h5", False),
    ],
)
def test_disks_of_this_machine(tmp_path, monkeypatch, place, local):
    """The innermost mount counts, of two at one point the later one, also where its name has a space."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        f"""22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / {tmp_path}/a\\040share rw shared:1 master:2 - nfs4 server:/data rw
31 30 0:41 / {tmp_path}/a\\040share/scratch rw - xfs /dev/vdb rw
32 22 0:42 / {tmp_path}/auto rw - autofs /etc/auto.data rw
33 32 0:43 / {tmp_path}/auto rw - cifs //server/data rw
"""
    )
    monkeypatch.setattr("tomolive.files.places._MOUNTS", mounts)
    assert is_local(tmp_path / place) == local


def test_a_system_that_does_not_say(tmp_path, monkeypatch):
    """Nothing is taken to be local."""
    monkeypatch.setattr("tomolive.files.places._MOUNTS", tmp_path / "nowhere")
    assert not is_local(tmp_path)
