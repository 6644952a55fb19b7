"""What the zygote does for its host, without a fork: whom it kills, what it reports, how it reads a large context."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from array import array
from types import SimpleNamespace

import pytest

from rlm_ray.sandbox import jail
from rlm_ray.sandbox.guest import zygote as zygote_module
from rlm_ray.sandbox.guest.zygote import CONTEXT_FILE_HEADER, IDLE_CPU_S, Zygote


class Bench:
    """A zygote with two children, 101 and 102, of the host's numbers 1 and 2."""

    def __init__(self, patch):
        self.host, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.host.setblocking(False)
        self.zygote = Zygote(control, None)
        self.zygote._children.update({101: 1, 102: 2})
        self.killed, self.gone, self.cpu_s = [], [], {101: 5.0, 102: 7.0}
        patch.setattr(zygote_module.os, "kill", lambda pid, number: self.killed.append((pid, number)))
        patch.setattr(zygote_module, "_cpu_s", self.cpu_s.__getitem__)
        patch.setattr(zygote_module, "_wait", lambda _: self.gone.pop(0) if self.gone else None)
        patch.setattr(zygote_module.os, "_exit", self.exit)
        self.control = control

    def exit(self, code):
        raise SystemExit(code)

    def order(self, **order):
        self.host.send(json.dumps(order).encode())
        return self.zygote._read_command()

    def reported(self):
        try:
            return json.loads(self.host.recv(4_096))
        except BlockingIOError:
            return None

    def reap(self, *gone):
        self.gone = list(gone)
        self.zygote._reap()

    def close(self):
        for each in (self.host, self.control):
            each.close()
        for each in (self.zygote._wake_read, self.zygote._wake_write):
            os.close(each)


@pytest.fixture
def bench(monkeypatch):
    bench = Bench(monkeypatch)
    yield bench
    bench.close()


@pytest.mark.parametrize(("number", "killed"), [(1, [101]), (2, [102]), (3, [])])
def test_the_child_of_the_number_is_killed_and_no_other(bench, number, killed):
    assert bench.order(op="kill", id=number) is True
    assert bench.killed == [(pid, signal.SIGKILL) for pid in killed]


def test_the_end_of_a_child_is_reported_once_by_its_number(bench):
    bench.reap((101, 9), (999, 0))
    assert (bench.reported(), bench.reported()) == ({"exited": 1, "status": 9}, None)
    bench.order(op="kill", id=1)
    assert bench.killed == []  # its process id may be another's by now


@pytest.mark.parametrize(("used_s", "is_killed"), [(IDLE_CPU_S, False), (IDLE_CPU_S + 0.01, True)])
def test_a_child_that_works_between_two_cells_is_killed_and_reported_as_over_its_processor_time(
    bench, used_s, is_killed
):
    bench.order(op="idle", id=1)
    bench.cpu_s[101] += used_s
    bench.cpu_s[102] += 100.0  # its cell runs
    for _ in range(2):
        bench.zygote._stop_busy_idlers()
    assert bench.killed == [(101, signal.SIGKILL)] * is_killed
    bench.reap((101, signal.SIGKILL))
    status = signal.SIGXCPU if is_killed else signal.SIGKILL
    assert bench.reported() == {"exited": 1, "status": status}
    assert (bench.zygote._idle, bench.zygote._overrun, list(bench.zygote._children)) == ({}, set(), [102])


def test_a_child_whose_next_cell_has_begun_may_work(bench):
    bench.order(op="idle", id=1)
    bench.order(op="busy", id=1)
    bench.order(op="busy", id=2)
    bench.cpu_s[101] += 100.0
    bench.zygote._stop_busy_idlers()
    assert bench.killed == []


def test_a_child_that_cannot_be_forked_is_reported_and_its_descriptors_are_closed(bench, monkeypatch):
    def full():
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(zygote_module.os, "fork", full)
    read, write = os.pipe()
    order = {"op": "fork", "id": 3, "memory": 1, "landlock": False, "filtered": True}
    socket.send_fds(bench.host, [json.dumps(order).encode()], [write])
    os.close(write)
    assert bench.zygote._read_command() is True
    assert bench.reported() == {"exited": 3, "status": -1}
    assert os.read(read, 1) == b""  # nobody has the other end any more
    os.close(read)


def test_a_child_is_known_by_the_number_of_its_order(bench, monkeypatch):
    monkeypatch.setattr(zygote_module.os, "fork", lambda: 103)
    assert bench.order(op="branch", id=3) is True
    bench.reap((103, 0))
    assert bench.reported() == {"exited": 3, "status": 0}


def test_the_end_of_the_host_is_the_end_of_all_children(bench):
    bench.host.shutdown(socket.SHUT_WR)
    assert bench.zygote._read_command() is False
    bench.gone = [(101, 9), (104, 9), (102, 9)]  # one is the child of a branch that is gone
    with pytest.raises(SystemExit) as ended:
        bench.zygote._shutdown()
    assert ended.value.code == 0
    assert (sorted(bench.killed), bench.gone) == ([(101, signal.SIGKILL), (102, signal.SIGKILL)], [])


def test_a_report_that_nobody_reads_ends_the_zygote(bench):
    bench.host.close()
    with pytest.raises(SystemExit):
        bench.reap((101, 9))
    assert bench.killed == [(102, signal.SIGKILL)]


def test_a_child_starts_without_the_zygote_s_children(bench, monkeypatch):
    set_ = []
    monkeypatch.setattr(zygote_module.signal, "set_wakeup_fd", lambda *each: set_.append(each))
    monkeypatch.setattr(zygote_module.signal, "signal", lambda *each: set_.append(each))
    bench.order(op="idle", id=1)
    bench.zygote._reset_after_fork()
    assert (bench.zygote._children, bench.zygote._idle) == ({}, {})
    assert set_ == [(-1,), (signal.SIGCHLD, signal.SIG_DFL)]


@pytest.mark.parametrize(
    ("texts", "ids", "content"),
    [
        (["plain ä text"], None, "plain ä text"), ([""], None, ""), (["ä", "", "😀b"], None, ["ä", "", "😀b"]),
        (["ä", "b"], ["x", "ü"], [{"id": "x", "text": "ä"}, {"id": "ü", "text": "b"}]),
    ],
)  # fmt: skip
def test_a_large_context_is_read_as_it_was_written(texts, ids, content):
    encoded = [text.encode() for text in texts]
    offsets = array("q", [0])
    for each in encoded:
        offsets.append(offsets[-1] + len(each))
    named = b"" if ids is None else json.dumps(ids).encode()
    table = b"" if isinstance(content, str) else offsets.tobytes()
    text = b"".join(encoded)
    file = os.memfd_create("context")
    os.write(
        file, CONTEXT_FILE_HEADER.pack(len(named), len(table), len(text)) + named + table + text + b"and more"
    )
    assert zygote_module._read_memory_file(file) == content
    os.close(file)


def test_processor_time_of_a_process_is_that_of_its_clock():
    before = zygote_module._cpu_s(os.getpid())
    sum(range(200_000))
    assert before < zygote_module._cpu_s(os.getpid()) < before + 60


@pytest.mark.parametrize("filtered", [True, False])
def test_a_child_runs_the_language_and_within_the_limits_of_its_order(bench, filtered, monkeypatch):
    ran = []
    monkeypatch.setattr(zygote_module.child, "run_child", lambda *given: ran.append(given))
    monkeypatch.setattr(zygote_module, "CellLanguage", lambda **how: ("language", how))
    bench.zygote._language = "the one that was made before"
    bench.zygote._run_repl({"memory": 256, "landlock": True, "filtered": filtered}, 7)
    ((channel, limits, parts, language),) = ran
    assert (channel, limits, parts) == (7, jail.JailLimits(256, True), None)
    assert language == ("the one that was made before" if filtered else ("language", {"filtered": False}))


def test_a_zygote_of_a_large_context_has_its_socket_its_file_and_nothing_else(bench, monkeypatch):
    done, served = [], []

    class Served:
        def __init__(self, control, language, parts):
            served.append((control, language, parts.content))

        def serve(self):
            done.append(("serve",))

    for owner, name in ((os, "dup2"), (os, "close"), (jail, "close_from"), (zygote_module.gc, "freeze")):
        monkeypatch.setattr(owner, name, lambda *each, name=name, **_: done.append((name, *each)))
    monkeypatch.setattr(zygote_module.socket, "socket", lambda fileno: f"socket {fileno}")
    monkeypatch.setattr(zygote_module, "_read_memory_file", lambda descriptor: f"text of {descriptor}")
    monkeypatch.setattr(zygote_module, "Zygote", Served)
    bench.zygote._run_context_zygote(11, 12)
    assert served == [("socket 3", None, "text of 4")]
    assert done == [
        ("dup2", 11, 3), ("dup2", 12, 4), ("close_from", 5), ("close", 4), ("freeze",), ("serve",)
    ]  # fmt: skip
    monkeypatch.undo()


def test_a_zygote_starts_clean_whatever_the_actor_had(monkeypatch):
    done = []
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    patched = [
        (jail, "prctl"), (signal, "signal"), (signal, "pthread_sigmask"), (zygote_module.copies, "install"), (zygote_module.guards, "install"),
        (zygote_module.gc, "disable"), (zygote_module.gc, "freeze"), (os, "dup2"), (zygote_module.resource, "setrlimit"),
    ]  # fmt: skip
    for owner, name in patched:
        place = f"{owner.__name__.rpartition('.')[2]}.{name}"
        monkeypatch.setattr(owner, name, lambda *each, place=place: done.append((place, *each)))
    monkeypatch.setattr(zygote_module.resource, "getrlimit", lambda _: (1_024, 4_096))
    monkeypatch.setattr(
        zygote_module, "Zygote", lambda *given: SimpleNamespace(serve=lambda: done.append(("serve", *given)))
    )
    host, control = socket.socketpair()
    zygote_module.main(control.detach())
    channel, language = done[-1][1:]
    assert json.loads(host.recv(100)) == {"started": True}
    assert (language.filtered, vars(sys.modules["__main__"]).get("pytest")) == (True, None)
    assert done == [
        ("jail.prctl", jail.PR_SET_CHILD_SUBREAPER, 1),
        ("resource.setrlimit", zygote_module.resource.RLIMIT_NOFILE, (4_096, 4_096)),
        ("signal.pthread_sigmask", signal.SIG_SETMASK, ()),
        *(
            ("signal.signal", each, signal.SIG_DFL)
            for each in (signal.SIGALRM, signal.SIGPROF, signal.SIGVTALRM)
        ),
        ("signal.signal", signal.SIGINT, signal.SIG_IGN),
        ("copies.install",),
        ("guards.install",),
        ("gc.disable",),
        ("gc.freeze",),
        ("os.dup2", 0, 2),
        ("serve", channel, language),
    ]
    channel.close()
    host.close()
