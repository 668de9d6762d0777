"""Disks and systems that say no: io_uring forbidden, a file system that is full. The same answer, or an error."""
import ctypes
import errno
import json
import os
import platform
import struct
import subprocess
import unittest

from cli_case import BINARY, CliCase, STORAGE, UNSUPPORTED

LONG = "The keeper of the lighthouse wrote down the name of every ship that passed. " * 90
IO_URING_SETUP = 425  # on every architecture
LIBC = ctypes.CDLL(None, use_errno=True)


def forbid_io_uring(number):
    """For preexec_fn: io_uring_setup fails with this errno from now on."""
    load_number, equal, allow = (0x20, 0, 0, 0), (0x15, 0, 1, IO_URING_SETUP), (0x06, 0, 0, 0x7FFF0000)
    refuse = (0x06, 0, 0, 0x00050000 | number)
    lines = (load_number, equal, refuse, allow)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    program = Program(4, ctypes.addressof(code))

    def act():
        set_no_new_privs, set_seccomp, mode_filter = 38, 22, 2
        assert code  # the program's memory
        LIBC.prctl(set_no_new_privs, 1, 0, 0, 0)
        if LIBC.prctl(set_seccomp, mode_filter, ctypes.byref(program)) != 0:
            os._exit(99)
    return act


class SmallDisk:
    """A tmpfs of its own, where we may mount one."""

    def __init__(self, path, size):
        path.mkdir()
        self.path = path
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True)
        if done.returncode != 0:
            raise unittest.SkipTest(f"no small tmpfs may be mounted here ({done.stderr.decode().strip()})")

    def __enter__(self):
        return self.path

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.path], check=True)


class Disks(CliCase):
    def paged(self, *options):
        text = self.write("long.txt", LONG)
        return ("-m", self.model(), "-no-cnv", "-f", text, "-n", "8", "--temp", "0", "--json", "-c", "8k", "--mem-max",
                "124MiB", "--kv-dir", self.dir, *options)

    @unittest.skipUnless(platform.system() == "Linux", "seccomp is Linux's")
    def test_without_io_uring_threads_do_the_same_and_one_line_says_so(self):
        command = self.paged()
        want = self.run_json(*command)
        for number in (errno.EPERM, errno.ENOSYS):
            with self.subTest(errno.errorcode[number]):
                done = subprocess.run([BINARY, *map(str, command)], capture_output=True, timeout=300,
                                      preexec_fn=forbid_io_uring(number))
                self.assertNotEqual(done.returncode, 99, "the filter was refused")
                self.assertEqual(done.returncode, 0, done.stderr)
                found = json.loads(done.stdout)
                self.assertEqual(found["tokens"], want["tokens"])
                self.assertGreater(found["io"]["read_bytes"], 0)
                lines = [line for line in done.stderr.splitlines() if b"io_uring" in line]
                self.assertEqual(len(lines), 1, done.stderr)
                self.assertIn(os.strerror(number).encode(), lines[0])
                refused = subprocess.run([BINARY, *map(str, (*command, "--kv-io", "uring"))], capture_output=True,
                                         timeout=300, preexec_fn=forbid_io_uring(number))
                self.assertEqual(refused.returncode, UNSUPPORTED, refused.stderr)
                self.assertEqual(refused.stdout, b"")

    def test_a_scratch_disk_that_is_too_small_is_refused_before_the_run(self):
        with SmallDisk(self.dir / "small", "4m") as small:
            done = self.run_cli(*self.paged("--kv-dir", small), status=STORAGE)
            self.assertIn(b"wanted", done.stderr)
            self.assertEqual(list(small.iterdir()), [])

    def test_a_session_that_the_disk_has_no_room_for_leaves_the_old_one(self):
        with SmallDisk(self.dir / "small", "6m") as small:
            session = small / "s"
            common = ("-m", self.model(), "-no-cnv", "-n", "4", "--temp", "0", "--session", session)
            self.run_cli(*common, "-p", "Hello there")
            before = session.read_bytes()
            done = subprocess.run([BINARY, *map(str, (*common, "-f", self.write("long.txt", LONG)))], timeout=300,
                                  capture_output=True)
            self.assertEqual(done.returncode, STORAGE, done.stderr)
            self.assertIn(b"No space left", done.stderr)
            self.assertEqual([item.name for item in small.iterdir()], ["s"])
            self.run_cli("session", "verify", session)
            self.assertEqual(session.read_bytes()[:4096], before[:4096])
            again = self.run_json(*common, "-p", "Hello there", "--json")
            self.assertGreater(again["cached_tokens"], 0)
