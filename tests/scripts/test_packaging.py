"""What is installed works for someone who has never seen the build folder.

LCRUN_BUILD is the build folder (set by the build).
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BUILD = Path(os.environ.get("LCRUN_BUILD") or Path(__file__).parents[2] / "build")
pytestmark = pytest.mark.skipif(not list(BUILD.rglob("liblcrun.so.0")), reason="liblcrun was not built")
PROGRAM = """
#include <lcrun/lcrun.h>
#include <stdio.h>
int main(void) { return puts(lcrun_version()) < 0; }
"""


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An install tree, and the environment in which pkg-config finds it."""
    root = tmp_path_factory.mktemp("root")
    meson = Path(sys.executable).parent / "meson"
    run(meson if meson.exists() else "meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", root)
    pc_file = next(root.rglob("lcrun.pc"))
    env = {**os.environ, "PKG_CONFIG_PATH": str(pc_file.parent), "PKG_CONFIG_SYSROOT_DIR": str(root)}
    library = next(root.rglob("liblcrun.so.0"))
    return root, env, library


def test_the_shared_library_shows_the_c_api_only(installed):
    listing = run("nm", "--dynamic", "--defined-only", installed[2])
    names = {re.sub(r"@.*", "", line.split()[-1]) for line in listing.splitlines()} - {"LCRUN_0"}
    assert "lcrun_version" in names
    assert {name for name in names if not name.startswith("lcrun_")} == set()


def test_the_soname_carries_the_version_of_the_interface(installed):
    assert "[liblcrun.so.0]" in run("readelf", "-d", installed[2])


@pytest.mark.parametrize("compiler, language", [("gcc", ["-x", "c", "-std=c11"]), ("g++", ["-x", "c++", "-std=c++17"])])
def test_a_program_builds_with_pkg_config_and_runs(installed, tmp_path, compiler, language):
    root, env, library = installed
    (tmp_path / "p.c").write_text(PROGRAM)
    flags = run("pkg-config", "--cflags", "--libs", "lcrun", env=env).split()
    run(compiler, *language, "-Wall", "-Wextra", "-pedantic", "-Werror", "p.c", "-x", "none", "-o", "p", *flags,
        cwd=tmp_path)
    version = run("pkg-config", "--modversion", "lcrun", env=env).strip()
    assert version in run(tmp_path / "p", env={**env, "LD_LIBRARY_PATH": str(library.parent)})


def test_a_program_links_the_static_library(installed, tmp_path):
    root, env, library = installed
    (tmp_path / "p.c").write_text(PROGRAM)
    flags = run("pkg-config", "--static", "--cflags", "--libs", "lcrun", env=env).split()
    static = [str(library.parent / "liblcrun.a") if flag == "-llcrun" else flag for flag in flags]
    run("gcc", "-std=c11", "p.c", "-o", "p", *static, cwd=tmp_path)
    assert "liblcrun" not in run("ldd", tmp_path / "p")
    run(tmp_path / "p")


def test_the_program_is_one_file_that_needs_the_c_library_only():
    allowed = ("linux-vdso", "libc.so", "libm.so", "libdl.so", "libpthread.so", "/lib64/ld-linux", "/lib/ld-linux")
    needed = [line.strip() for line in run("ldd", BUILD / "cli" / "lcrun").splitlines()]
    assert [line for line in needed if not line.startswith(allowed)] == []
