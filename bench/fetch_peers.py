#!/usr/bin/env python3
"""Fetches and builds what the scripts of this folder measure lcrun against.

    bench/fetch_peers.py [TARGET...]      (default: llama-bench) prints the path of each

llama-bench, or any other target of llama.cpp, is built from PyPI's llama-cpp-python source package; peer_answer,
peer_logits and peer_session are programs of ours (bench/peer_*.cpp) linked with its libraries; openvino is a launcher
of bench/openvino_bench.py in an environment that has OpenVINO GenAI's wheel; onednn is oneDNN's library, for
bench_onednn; matplotlib is a Python that can run bench/plot_depth.py.
Everything stays in the cache folder (~/.cache/lcrun/peers); nothing of it enters this project. The peer is built
for the very machine it runs on (GGML_NATIVE=ON): it gets every instruction that its authors can use here.
"""

import os
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

VERSION = "0.3.36"
OUR_PROGRAMS = ("peer_answer", "peer_logits", "peer_session")
OPENVINO = ["openvino-genai==2026.4.1.0", "numpy==2.4.6"]
ONEDNN = ["onednn-cpu-gomp==2023.2.0"]  # oneDNN 3.2, on the OpenMP that we use too
MATPLOTLIB = ["matplotlib==3.11.2"]
TOOLS = ["scikit-build-core==1.1.2", "flit-core==4.2.0", "cmake==4.4.4", "ninja==1.13.2"]
CMAKE_OPTIONS = ["-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_CURL=OFF",
                 "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_SERVER=OFF"]


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lcrun" / "peers"


def run(*command, **options):
    print("==> " + " ".join(map(str, command)), file=sys.stderr)
    subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr, **options)


def environment(folder, packages):
    """A virtual environment with the packages, made anew when they change; returns its bin folder."""
    stamp, wanted = folder / "packages.txt", "\n".join(packages)
    if not stamp.is_file() or stamp.read_text() != wanted:
        run(sys.executable, "-m", "venv", "--clear", folder)
        run(folder / "bin" / "python", "-m", "pip", "install", "-q", *packages)
        stamp.write_text(wanted)
    return folder / "bin"


def openvino(cache):
    """A program with llama-bench's options that measures OpenVINO GenAI."""
    python = environment(cache / "openvino", OPENVINO) / "python"
    launcher = cache / "openvino-bench"
    script = Path(__file__).resolve().parent / "openvino_bench.py"
    launcher.write_text(f'#!/bin/sh\nexec {shlex.quote(str(python))} {shlex.quote(str(script))} "$@"\n')
    launcher.chmod(0o755)
    return launcher


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


def build_program(name, llama, build):
    """Compiles a program of ours and links it with the peer's static libraries."""
    source_file = Path(__file__).resolve().parent / f"{name}.cpp"
    target = build / "bin" / name
    libraries = [build / name for name in ("src/libllama.a", "ggml/src/libggml.a", "ggml/src/libggml-cpu.a",
                                           "ggml/src/libggml-base.a")]
    target.parent.mkdir(parents=True, exist_ok=True)
    newest = max(path.stat().st_mtime for path in [source_file, *libraries])
    if not target.exists() or target.stat().st_mtime < newest:
        run(os.environ.get("CXX", "g++"), "-O2", "-std=c++17", "-I", llama / "include",
            "-I", llama / "ggml" / "include", source_file, *libraries, "-fopenmp", "-pthread", "-ldl", "-o", target)


def build_llama(cache, targets):
    """Builds targets of llama.cpp, or ours on top of it; returns their paths by name."""
    binaries = environment(cache / "venv", TOOLS)
    llama = source(cache, binaries)
    build = llama / "build"
    if not (build / "build.ninja").exists():
        run(binaries / "cmake", "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={binaries / 'ninja'}", "-S", llama, "-B", build,
            *CMAKE_OPTIONS)
    of_peer = ["llama" if target in OUR_PROGRAMS else target for target in targets]
    run(binaries / "cmake", "--build", build, "--target", *of_peer, "--parallel", len(os.sched_getaffinity(0)))
    for name in set(targets).intersection(OUR_PROGRAMS):
        build_program(name, llama, build)
    return {target: build / "bin" / target for target in targets}


def main(arguments):
    targets = arguments or ["llama-bench"]
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    of_llama = [target for target in targets if target not in ("openvino", "onednn", "matplotlib")]
    paths = build_llama(cache, of_llama) if of_llama else {}
    if "openvino" in targets:
        paths["openvino"] = openvino(cache)
    if "onednn" in targets:
        paths["onednn"] = environment(cache / "onednn", ONEDNN).parent / "lib" / "libdnnl.so.3"
    if "matplotlib" in targets:
        paths["matplotlib"] = environment(cache / "matplotlib", MATPLOTLIB) / "python"
    for target in targets:
        print(paths[target])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
