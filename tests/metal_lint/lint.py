"""Looks at a Metal program as Metal's compiler would, as far as that can be done without it.

    lint.py gptoss.metal FOLDER...

Clang's front end for "C++ for OpenCL" knows address spaces, vectors and names; the rules below know what that language
allows and Metal's does not. Messages have the files and lines of the program.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "emulator/metal"))

from bind import NotMetal, flatten, parse  # noqa: E402

FORBIDDEN = [
    (r"\b(double|long double)\b", "there is no double in Metal"),
    (r"\blong long\b", "there is no long long in Metal: a long has 64 bits"),
    (r"\bthreadgroup\s+(?!const\b)[\w:<>]+\s+\w+\s*[\[;=]", "threadgroup memory is a kernel's parameter, which the host gives a size"),
    (r"^\s*static\s+(?!constant\b)[\w:<>]+\s+\w+\s*[\[;={]", "a static variable is in no address space"),
    (r"\b(new|delete|throw|try|catch|virtual|dynamic_cast|typeid|goto|asm)\b", "not in Metal's language"),
    (r"\bstd::", "there is no standard library in Metal"),
    (r"\bif constexpr\b", "not before C++17; Metal 3 is C++14"),
    (r"\binline (static )?constexpr\b|\bconstexpr inline\b", "inline variables are of C++17; Metal 3 is C++14"),
    (r"\bnamespace \w+::", "nested namespaces are of C++17; Metal 3 is C++14"),
    (r"(?<![\w\])>])\[[^\[\]]*\]\s*\(.*\)\s*(->|\{)", "there are no lambdas in Metal 3"),
    (r"\bthread_elements\b", "which lane holds which elements of a matrix is not specified"),
    (r"\b(threadgroup|simdgroup)_barrier\s*\(", "barriers are sync_block() and sync_warp() of port.h"),
    (r"\b(fast::\w+|half_\w+)\s*\(", "arithmetic is precise here"),
    (r"(?<!::)\b(exp|log|sqrt|rsqrt|cos|sin|exp2|log2|pow)\s*\(", "use precise:: or the functions of port.h"),
]
SPACES = ("device", "constant", "threadgroup", "thread")
BUILTIN = ("bool|char|uchar|short|ushort|int|uint|long|ulong|half|float|size_t|u?int(?:8|16|32|64)_t|float[24]|uint3|ulong2|"
           "atomic_uint|U64")


def located(text: str) -> Iterator[tuple[str, str, int]]:
    """Lines, each with its file and number."""
    file, number = "", 0
    for line in text.split("\n"):
        match = re.match(r'#line (\d+) "(.*)"', line)
        if match:
            file, number = match[2], int(match[1])
            continue
        yield line, file, number
        number += 1


def of_metal(text: str) -> str:
    """The branch for Metal of `#if defined(__METAL_VERSION__)`, and nothing of the others; lines stay."""
    out, keep = [], [True]
    for line in text.split("\n"):
        word = line.strip()
        if re.match(r"#if\b", word):
            known = "__METAL_VERSION__" in word
            keep.append(keep[-1] and ("!defined" not in word if known else True))
        elif word.startswith("#else"):
            keep[-1] = len(keep) > 1 and keep[-2] and not keep[-1]
        elif word.startswith("#endif"):
            keep.pop()
        out.append(line if keep[-1] or word.startswith(("#line", "#if", "#else", "#endif")) else "")
    return "\n".join(out)


def unqualified(line: str, types: str) -> Iterator[str]:
    """Pointers and references that do not say which memory they point into."""
    for match in re.finditer(rf"((?:\b\w+\s+)*)\b({types})(?:<[\w:, ]+>)?\s*(?:const\s*)?([*&])(?![&=*])\s*(\w*)", line):
        before = match[1].split()
        if not any(space in before for space in SPACES):
            yield match[0].strip()


def rules(text: str) -> Iterator[str]:
    types = "|".join([BUILTIN, *re.findall(r"\bstruct (\w+)", text), *re.findall(r"\bclass (\w+)", text)])
    text = text.replace("GPTOSS_MEMORY", "device").replace("GPTOSS_CONSTANT", "constant constexpr")
    depth: list[str] = []  # of braces: what opened each
    statement = ""
    for line, file, number in located(text):
        def message(what: str, file: str = file, number: int = number) -> str:
            return f"{file}:{number}: error: {what}"

        if line.startswith("#"):
            continue
        at_port = file.endswith("port.h")
        for pattern, why in FORBIDDEN:
            if re.search(pattern, line) and not (at_port and ("barrier" in pattern or "precise" in why)):
                yield message(f"{why}: {line.strip()}")
        for pointer in unqualified(line, types):
            yield message(f"'{pointer}' says in no way which memory it points into")
        for c in line:
            if c in "{;" and "other" not in depth and "=" in statement and not re.match(
                    r"\s*(typedef|using|template|static_assert|constant|struct|inline)\b", statement):
                yield message(f"a variable of the program is in constant memory, or nowhere: {statement.strip()}")
            if c == "{":
                depth.append("namespace" if re.search(r"\bnamespace\b[^;{}]*$", statement) else "other")
                statement = ""
            elif c == "}":
                if depth:
                    depth.pop()
                statement = ""
            elif c == ";":
                statement = ""
            else:
                statement += c
        statement += " "
        if re.search(r"\bkernel\s+void\b", line) and "namespace" in depth:
            yield message("a kernel in a namespace may not be found by its name")


def front_end(text: str, compiler: list[str]) -> str:
    """What Clang says of it as C++ for OpenCL."""
    text = re.sub(r"\[\[.*?\]\]", "", text)
    text = re.sub(r"\bkernel\b", "", text)  # functions like others: OpenCL's kernels have no references and no templates
    text = text.replace("#pragma METAL", "//").replace("#pragma clang", "//")
    errors = [f"-Werror={name}" for name in ("float-conversion", "c++11-narrowing", "return-type", "pre-c++17-compat")]
    command = [*compiler, "-x", "clcpp", "-cl-std=clc++2021", "-target", "spir64", "-fsyntax-only", "-Wno-everything",
               *errors, "-cl-no-stdinc", "-D__METAL_VERSION__=310", "-I", str(HERE), "-"]
    result = subprocess.run(command, input=text, capture_output=True, text=True)
    return result.stderr if result.returncode else ""


def lint(program: Path, folders: list[Path], compiler: list[str]) -> str:
    """Every complaint, a line each; empty where there is none."""
    try:
        text = flatten(program, folders, set())
        parse(text)
    except NotMetal as error:
        return f"{program}: error: {error}\n"
    return "".join(f"{message}\n" for message in rules(of_metal(text))) + front_end(text, compiler)


if __name__ == "__main__":
    complaints = lint(Path(sys.argv[1]), [Path(folder) for folder in sys.argv[2:]], ["clang++-19"])
    sys.stderr.write(complaints)
    sys.exit(1 if complaints else 0)
