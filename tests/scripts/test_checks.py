"""Each check must find what it exists for: small trees with one fault each."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


def check(name, *arguments):
    done = subprocess.run([sys.executable, str(SCRIPTS / name), *map(str, arguments)], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def write(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture
def tree(tmp_path):
    write(tmp_path, "src/base/a.hpp", "// A file.\n#include <vector>\n")
    write(tmp_path, "storage/b.hpp", '// Another.\n#include "src/base/a.hpp"\n')
    return tmp_path


def test_a_clean_tree_passes_both_checks(tree):
    assert check("check_layers.py", tree)[0] == 0
    assert check("check_style.py", tree)[0] == 0


@pytest.mark.parametrize("path, line", [
    ("src/base/x.cpp", '#include "storage/b.hpp"'),         # upwards
    ("ggufish/x.cpp", '#include "storage/b.hpp"'),          # sideways
    ("storage/x.cpp", '#include "quant/format.hpp"'),       # lower, but storage sees bytes only
    ("src/base/x.cpp", '#include "a.hpp"'),                 # not from the root
    ("plugins/p/p.c", '#include "src/base/a.hpp"'),         # past the public door
])
def test_an_include_that_does_not_point_downwards_is_found(tree, path, line):
    write(tree, "quant/format.hpp", "// Formats.\n")
    write(tree, path, f"// X.\n{line}\n")
    status, output = check("check_layers.py", tree)
    assert status == 1
    assert f"{path}:2: " in output


@pytest.mark.parametrize("path, text, message", [
    ("src/base/x.cpp", "int f() { return 1; }\n", "opening comment"),
    ("src/base/x.cpp", "// X.\n" + "\n" * 700, "lines"),
    ("src/base/x.cpp", "// X.\nint f() {\n" + "  g();\n" * 61 + "}\n", "a function of 63 lines"),
    ("src/base/x.cpp", "// X.\n// TO" + "DO: later\n", "unfinished"),
    ("src/base/x.cpp", "// X.\nstd::reg" + "ex pattern;\n", "recurses"),
    ("src/base/meson.build", "args = ['-ffast-" + "math']\n", "banned"),
    ("src/base/x.cpp", "// X." + "y" * 130 + "\n", "columns"),
])
def test_what_the_style_page_forbids_is_found(tree, path, text, message):
    write(tree, path, text)
    status, output = check("check_style.py", tree)
    assert status == 1
    assert message in output


def test_a_class_or_table_of_any_length_is_not_a_long_function(tree):
    body = "  int f();\n" * 80
    write(tree, "src/base/x.hpp", "// X.\nclass A : public B<int()> {\n" + body + "};\nconst int kTable[] = {\n" +
          "  1,\n" * 80 + "};\n")
    status, output = check("check_style.py", tree)
    assert status == 0, output


def test_a_weak_symbol_in_a_kernel_library_is_found(tmp_path):
    source = """
      inline int shared(int x) { return x + 1; }
      namespace lcrun::kernels::avx2 { extern const int table; const int table = 1; }
      int (*leak)(int) = shared;
    """
    (tmp_path / "k.cpp").write_text(source)
    subprocess.run(["g++", "-std=c++20", "-O0", "-c", "k.cpp", "-o", "k.o"], cwd=tmp_path, check=True)
    subprocess.run(["ar", "rcs", "liblcrun_kernels_avx2.a", "k.o"], cwd=tmp_path, check=True)
    status, output = check("check_isa_symbols.py", tmp_path / "liblcrun_kernels_avx2.a")
    assert status == 1
    assert "W shared(int)" in output
