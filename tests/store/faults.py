"""An operating system that fails, crashes and loses power, in place of ``os`` in ``store.local``.

Every system call goes through it and is counted. The chosen one fails, or is the last one that is made:
after a crash no call has any effect any more, as if the process had been killed there.
"""

from __future__ import annotations

import contextlib
import os
import stat

# Not calls to the kernel, or calls that change and tell nothing that matters here.
_HARMLESS = {"fspath", "fsencode", "strerror"}


class Crash(BaseException):
    """The process is gone."""


class FaultyOs:
    """Looks like ``os``; `fail_at` counts calls from 1."""

    def __init__(self, fail_at=None, how=None, write_at_most=None):
        self.calls = []
        self.fail_at = fail_at
        self.how = how
        self.write_at_most = write_at_most
        self.crashed = False

    def __getattr__(self, name):
        real = getattr(os, name)
        if not callable(real) or name in _HARMLESS or isinstance(real, type):
            return real

        def call(*args, **kwargs):
            if self.crashed:
                raise Crash
            self.calls.append(name)
            if len(self.calls) == self.fail_at:
                if name == "write":  # some of it gets through
                    real(args[0], bytes(args[1])[: len(args[1]) // 2])
                if name == "close":  # Linux closes whatever it answers
                    real(*args)
                if self.how is Crash:
                    self.crashed = True
                    raise Crash
                raise OSError(self.how, os.strerror(self.how))
            if name == "write" and self.write_at_most:
                args = (args[0], bytes(args[1])[: self.write_at_most])
            # Nobody pulls the plug of this machine: what a sync is for is played below, and costs nothing.
            return self.made(name, None if name == "fsync" else real(*args, **kwargs), args)

        return call

    def made(self, name, result, args):
        """Note what a call has done."""
        return result


class PowerCut(FaultyOs):
    """Also knows what a disk has for sure: the bytes and names that were synced, and nothing else."""

    def __init__(self, root, **kwargs):
        super().__init__(**kwargs)
        self.root = root
        self.removed = []
        self.bytes_of = {}  # inode → what was synced
        self.names_in = {}  # inode → {name: inode} when the folder was synced
        self._now_durable(root)

    def __getattr__(self, name):
        call = super().__getattr__(name)
        if name != "unlink":
            return call

        def unlink(path):
            # What is removed stays open here, or its number would be given to the next file.
            self.removed.append(os.open(path, os.O_RDONLY))
            call(path)

        return unlink

    def _now_durable(self, folder):
        """Take what is there at the start as synced."""
        names = {}
        for entry in os.scandir(folder):
            names[entry.name] = entry.inode()
            if entry.is_dir(follow_symlinks=False):
                self._now_durable(entry.path)
            else:
                with open(entry.path, "rb") as file:
                    self.bytes_of[entry.inode()] = file.read()
        self.names_in[os.stat(folder).st_ino] = names

    def made(self, name, result, args):
        if name == "open" and args[1] & os.O_CREAT:
            self.bytes_of[os.fstat(result).st_ino] = None
            self.names_in.pop(os.fstat(result).st_ino, None)
        if name == "mkdir":
            self.names_in[os.stat(args[0]).st_ino] = {}
        if name == "fsync":
            found = os.fstat(args[0])
            if stat.S_ISDIR(found.st_mode):
                with os.scandir(args[0]) as entries:
                    self.names_in[found.st_ino] = {entry.name: entry.inode() for entry in entries}
            else:
                with open(f"/proc/self/fd/{args[0]}", "rb") as file:
                    self.bytes_of[found.st_ino] = file.read()
        return result

    def after(self, folder, *, names_survive):
        """Build in `folder` what is found when the power is back.

        `names_survive`: names that were not synced are there all the same, as disks also may do; bytes never.
        """
        self._restore(os.stat(self.root).st_ino, self.root, folder, names_survive)
        while self.removed:
            os.close(self.removed.pop())

    def _restore(self, inode, now, folder, names_survive):
        names = dict(self.names_in.get(inode, {}))
        if names_survive and os.path.isdir(now):
            names = {entry.name: entry.inode() for entry in os.scandir(now)}
        os.makedirs(folder, exist_ok=True)
        for name, child in names.items():
            place = os.path.join(folder, name)
            if child in self.names_in:
                self._restore(child, os.path.join(now, name), place, names_survive)
            else:
                with open(place, "wb") as file:
                    file.write(self.bytes_of.get(child) or b"")


@contextlib.contextmanager
def instead_of_os(faulty):
    """Let the store make its calls to `faulty`."""
    from safetykit_analytics.store import local

    real = local.os
    local.os = faulty
    try:
        yield faulty
    finally:
        local.os = real
