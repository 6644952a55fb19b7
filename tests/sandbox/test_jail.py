"""The kernel's walls alone: code with all of Python, and whatever ctypes can say."""

from __future__ import annotations

import platform
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sandbox_fakes import QUICK, Served

from rlm_ray.core.context import make_context
from rlm_ray.sandbox.host.sandbox import SandboxManager
from rlm_ray.sandbox.jail import seccomp_program

pytestmark = pytest.mark.slow


@pytest_asyncio.fixture(loop_scope="module")
async def manager() -> AsyncIterator[SandboxManager]:
    """A zygote for each test."""
    async with SandboxManager(QUICK) as manager:
        yield manager


# Each must fail with EPERM.
ATTEMPTS = {
    "fork": "os.fork()",
    "kill": "os.kill(1, 0)",
    "read a file": "os.open('/etc/passwd', 0)",
    "write a file": "os.open('/tmp/x', os.O_CREAT | os.O_WRONLY)",
    "list a folder": "os.listdir('/')",
    "a TCP socket": "socket.socket()",
    "a pair of sockets": "socket.socketpair()",
    "a pipe": "os.pipe()",
    "exec": "os.execv('/bin/sh', ['sh'])",
    "executable memory": "mmap.mmap(-1, 4096, prot=7)",
    "change a limit": "call(302, 0, 9, 0, 0)",
    "memfd_create": "os.memfd_create('x')",
    "chroot": "os.chroot('/')",
    "sleep": "time.sleep(1)",
    "prctl": "call(157, 38, 1)",
    "ptrace": "call(101, 16, 1)",
    "process_vm_readv": "call(310, 1, 0, 0, 0, 0, 0)",
    "io_uring": "call(425, 8, 0)",
    "bpf": "call(321, 0, 0, 0)",
    "keyctl": "call(250, 0, 0)",
    "shared memory of System V": "call(29, 1, 4096, 0)",
    "open another process": "call(434, 1, 0)",
    "unshare": "call(272, 0x10000000)",
    "mount": "call(165, 0, 0, 0, 0, 0)",
    "seccomp again": "call(317, 1, 0, 0)",
    "a call of the x32 table": "call(0x40000000 + 1, 1, 0, 0)",
    "mprotect to executable": "call(10, 0, 4096, 5)",
}

PRELUDE = """
import ctypes, mmap, os, socket, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *args):
    if libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, args)) < 0:
        raise OSError(ctypes.get_errno(), "refused")
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of the calls are x86_64's")
async def test_the_kernel_refuses_whatever_leads_out(host: SandboxManager) -> None:
    repl = await host.open(make_context("x"), "q", filtered=False)
    assert (await repl.run([PRELUDE], Served())).error is None
    for name, attempt in ATTEMPTS.items():
        result = await repl.run([f"try: {attempt}\nexcept OSError as e: print(e.errno)"], Served())
        assert (name, result.output, result.error, result.kill_reason) == (name, "1\n", None, None)


async def test_a_child_has_its_channel_and_nothing_else_open(host: SandboxManager) -> None:
    repl = await host.open(make_context("x"), "q", filtered=False)
    code = "import os\nfor n in range(64):\n    try: os.lseek(n, 0, 1)\n    except OSError as e: e.errno == 9 or print(n, end=' ')\n    else: print(n, end=' ')"
    assert (await repl.run([code], Served())).output == "0 1 2 3 "


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines)


async def test_a_child_has_no_capabilities_and_both_filters(host: SandboxManager) -> None:
    await host.open(make_context("x"), "q")
    (child,) = descendants(host)
    status = status_of(child)
    assert (status["CapEff"], status["CapPrm"]) == ("0" * 16, "0" * 16)
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_both_tables_of_system_calls_make_a_filter() -> None:
    for machine in ("x86_64", "aarch64"):
        program = seccomp_program(machine)
        jumps = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
        assert jumps[-1] == (0x06, 0, 0, 0x00050001)
        for at, (code, when_true, when_false, _) in enumerate(jumps):
            assert code not in (0x15, 0x35, 0x45) or at + max(when_true, when_false) + 1 < len(jumps)


def test_the_zygote_imports_nothing_heavy() -> None:
    code = "import sys, rlm_ray.sandbox.guest.zygote; print(*sorted({'ray', 'litellm', 'pydantic', 'numpy', 'asyncio'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        == "\n"
    )


def test_an_actor_that_imports_the_sandbox_imports_nothing_heavy() -> None:
    code = "import sys, rlm_ray.sandbox.host.sandbox; print(*sorted({'ray', 'litellm', 'pydantic', 'numpy', 'RestrictedPython'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        == "\n"
    )


# Contexts


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def descendants(host: SandboxManager) -> list[int]:
    assert host.zygote_pid is not None
    found, unseen = [], [host.zygote_pid]
    while unseen:
        more = children_of(unseen.pop())
        found += more
        unseen += more
    return found


def holds(pid: int, marker: bytes) -> bool:
    """Some writable or private memory of the process contains the marker."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            start, stop = (int(bound, 16) for bound in span.split("-"))
            if not rights.startswith("r") or "[v" in line:
                continue
            memory.seek(start)
            if marker in memory.read(stop - start):
                return True
    return False


async def test_a_child_never_has_another_sessions_context_in_memory(host: SandboxManager) -> None:
    """Large text, small text, large documents, a question: none is in a process it is not for."""
    secrets = ["alpha-8c1f", "beta-77d2", "gamma-e09a", "delta-5b41"]
    contexts = [
        make_context(secrets[0] * 50_000),
        make_context(secrets[1] * 10),
        make_context([secrets[2] * 5] * 10_000),
        make_context("nothing"),
    ]
    for context, query in zip(contexts, ["q", "q", "q", secrets[3]], strict=True):
        await host.open(context, query)
    processes = descendants(host)
    assert len(processes) == 4 + 2
    known = [[secret for secret in secrets if holds(pid, secret.encode())] for pid in processes]
    assert all(len(found) == 1 for found in known)
    assert sorted(found[0] for found in known) == sorted([*secrets, secrets[0], secrets[2]])
    assert host.zygote_pid is not None
    assert not any(holds(host.zygote_pid, secret.encode()) for secret in secrets)


async def test_sessions_over_one_key_share_one_decoded_context(host: SandboxManager) -> None:
    context = make_context("é" * 1_000_000, key="shared")
    repls = [await host.open(context, "q") for _ in range(4)]
    assert len(descendants(host)) == 4 + 1
    for repl in repls:
        result = await repl.run(["print(len(context), context[0])"], Served())
        assert result.output == "1000000 é\n"


async def test_the_last_two_unused_contexts_are_kept_and_older_ones_dropped(host: SandboxManager) -> None:
    for number in range(4):
        repl = await host.open(make_context(f"{number}" * 300_000, key=f"key {number}"), "q")
        await repl.aclose()
    assert host.held_contexts == ["key 2", "key 3"]
    await host.open(make_context("2" * 300_000, key="key 2"), "q")
    assert host.held_contexts == ["key 3", "key 2"]


@pytest.mark.parametrize("size", [1, 20_000], ids=["small", "large"])
@pytest.mark.parametrize("with_ids", [False, True])
async def test_documents_are_shown_as_they_are(host: SandboxManager, size: int, *, with_ids: bool) -> None:
    texts = [f"{n}é" * size for n in range(20)]
    documents = [{"id": f"d{n}", "text": text} for n, text in enumerate(texts)] if with_ids else texts
    repl = await host.open(make_context(documents), "q")
    code = "d = context[3]\nprint(len(context), type(d).__name__, (d['id'], d['text'][:2], len(d['text'])) if isinstance(d, dict) else d[:2])"
    shown = f"20 dict ('d3', '3é', {2 * size})\n" if with_ids else "20 str 3é\n"
    assert (await repl.run([code], Served())).output == shown
