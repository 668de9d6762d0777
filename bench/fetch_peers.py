#!/usr/bin/env python3
"""Builds llama.cpp's llama-bench from PyPI's llama-cpp-python source package, for bench/compare.py.

    bench/fetch_peers.py [TARGET...]      (default: llama-bench) prints the paths of what it built

Everything stays in the cache folder (~/.cache/lcrun/peers); nothing of it enters this project. The peer is built
for the very machine it runs on (GGML_NATIVE=ON): it gets every instruction that its authors can use here.
"""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

VERSION = "0.3.36"
TOOLS = ["scikit-build-core==1.1.2", "flit-core==4.2.0", "cmake==4.4.4", "ninja==1.13.2"]
CMAKE_OPTIONS = ["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_CURL=OFF",
                 "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_SERVER=OFF"]


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lcrun" / "peers"


def run(*command, **options):
    print("==> " + " ".join(map(str, command)), file=sys.stderr)
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr, **options)


def tools(cache):
    """A virtual environment with what the peer's build needs; returns its bin folder."""
    binaries = cache / "venv" / "bin"
    if not (binaries / "cmake").exists():
        run(sys.executable, "-m", "venv", cache / "venv")
        run(binaries / "python", "-m", "pip", "install", "-q", *TOOLS)
    return binaries


def source(cache, binaries):
    folder = cache / f"llama-cpp-python-{VERSION}"
    llama = folder / "vendor" / "llama.cpp"
    if llama.is_dir():
        return llama
    package = cache / f"llama_cpp_python-{VERSION}.tar.gz"
    if not package.is_file():
        run(binaries / "python", "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:",
            "--no-build-isolation", "-d", cache, f"llama-cpp-python=={VERSION}",
            env={**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"})
    partial = cache / f"unpack-{os.getpid()}"
    with tarfile.open(package) as archive:
        archive.extractall(partial)
    next(partial.iterdir()).rename(folder)
    partial.rmdir()
    return llama


def main(arguments):
    targets = arguments or ["llama-bench"]
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    binaries = tools(cache)
    llama = source(cache, binaries)
    build = llama / "build"
    if not (build / "build.ninja").exists():
        run(binaries / "cmake", "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={binaries / 'ninja'}", "-S", llama, "-B", build,
            *CMAKE_OPTIONS)
    run(binaries / "cmake", "--build", build, "--target", *targets, "--parallel", len(os.sched_getaffinity(0)))
    for target in targets:
        print(build / "bin" / target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
