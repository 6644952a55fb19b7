"""What the kernel says of this machine and this process, and what its errors mean in a container."""

from __future__ import annotations

import errno
import os

import pytest

from rlm_ray.sandbox import jail
from rlm_ray.sandbox.host import kernel_features
from rlm_ray.sandbox.host.kernel_features import Privileges, probe_features, read_privileges


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSYS, "the kernel is too old for it"),
        (errno.EOPNOTSUPP, "boot with landlock among those of lsm="),
        (errno.EPERM, "the container's seccomp profile refuses it"),
        (errno.EINVAL, os.strerror(errno.EINVAL)),
    ],
)
def test_a_layer_that_is_missing_says_why_and_what_would_bring_it(monkeypatch, number, said):
    def refuse():
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(jail, "landlock_version", refuse)
    [landlock] = [layer for layer in probe_features() if layer.name == "Landlock"]
    assert not landlock.available
    assert said in landlock.reason_missing


@pytest.mark.parametrize(
    ("status", "privileges"),
    [
        (
            "Name:\tpython\nUid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n",
            Privileges(1000, 0, no_new_privs=True, seccomp=True),
        ),
        (
            "Uid:\t0\t0\t0\t0\nCapEff:\t00000000a80425fb\nNoNewPrivs:\t0\nSeccomp:\t0\nGroups:\n",
            Privileges(0, 14, no_new_privs=False, seccomp=False),
        ),
        (
            "Uid:\t1000\t0\t0\t0\nCapEff:\t000001ffffffffff\nSeccomp:\t1\n",
            Privileges(0, 41, no_new_privs=False, seccomp=False),
        ),
        ("Uid:\t7\t7\t7\t7\n", Privileges(7, 0, no_new_privs=False, seccomp=False)),
    ],
)
def test_the_privileges_of_a_process_are_read_from_its_status(tmp_path, status, privileges):
    path = tmp_path / "status"
    path.write_text(status)
    assert read_privileges(path) == privileges
    assert read_privileges(path).needless == (privileges.uid == 0 or privileges.capabilities > 0)


def test_the_kernel_tells_of_this_process():
    assert kernel_features.read_privileges().uid == os.geteuid()
