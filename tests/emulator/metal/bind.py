"""Makes a Metal program C++: its text without the attributes, and calls of its kernels that do what these say.

    bind.py attention.metal FOLDER... > attention.cpp

All other words are macros and types of the header metal_stdlib beside this file; lines keep their numbers. On the way
it checks what C++ would not: that each parameter of a kernel has an attribute, that no index is used twice, that each
template is instantiated under a name.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

PLACES = {  # attribute -> the expression, for a scalar and for a vector
    "threadgroup_position_in_grid": ("at.block.x", "uint3{at.block.x, at.block.y, at.block.z}"),
    "threads_per_threadgroup": ("at.block_extent.x", "uint3{at.block_extent.x, at.block_extent.y, at.block_extent.z}"),
    "threadgroups_per_grid": ("at.grid_extent.x", "uint3{at.grid_extent.x, at.grid_extent.y, at.grid_extent.z}"),
    "thread_index_in_threadgroup": ("linear", ""),
    "thread_index_in_simdgroup": ("linear % 32", ""),
    "simdgroup_index_in_threadgroup": ("linear / 32", ""),
}


class NotMetal(Exception):
    """Something that a compiler of Metal's language would refuse."""


@dataclass(frozen=True)
class Parameter:
    type: str
    name: str
    attribute: str
    index: int


@dataclass(frozen=True)
class Kernel:
    host_name: str
    function: str  # with its template arguments
    threads: str  # of a threadgroup at most, as the kernel promises; "0" if it does not
    parameters: list[Parameter]


def without_comments(text: str) -> str:
    return re.sub(r"//[^\n]*|/\*.*?\*/", lambda match: re.sub(r"[^\n]", " ", match[0]), text, flags=re.S)


def flatten(path: Path, folders: list[Path], seen: set[Path]) -> str:
    """The text with what it includes in quotes, each file once, and without comments."""
    seen.add(path.resolve())
    out = [f'#line 1 "{path}"']
    for number, line in enumerate(without_comments(path.read_text()).split("\n"), 1):
        match = re.match(r'#include "([^"]+)"', line)
        line = line.replace("#pragma once", "")
        if match is None:
            out.append(line)
            continue
        found = [folder / match[1] for folder in [path.parent, *folders] if (folder / match[1]).exists()]
        if not found:
            raise NotMetal(f"{path.name}:{number}: includes {match[1]}, which is in none of the folders")
        if found[0].resolve() not in seen:
            out.append(flatten(found[0], folders, seen))
        out.append(f'#line {number + 1} "{path}"')
    return "\n".join(out)


def split(text: str) -> list[str]:
    """At commas outside of brackets."""
    parts, depth = [""], 0
    for c in text:
        depth += (c in "<([{") - (c in ">)]}")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [part.strip() for part in parts if part.strip()]


def parse_parameters(kernel: str, text: str) -> list[Parameter]:
    parameters = []
    for part in split(text):
        attributes = re.findall(r"\[\[\s*(\w+)\s*(?:\(\s*(\d+)\s*\))?\s*\]\]", part)
        words = re.sub(r"\[\[.*?\]\]", "", part).strip()
        match = re.fullmatch(r"(.*?)\s*(\w+)", words, re.S)
        if match is None or len(attributes) != 1:
            raise NotMetal(f"kernel {kernel}: parameter '{words}' has no attribute, or more than one")
        attribute, index = attributes[0]
        if attribute not in PLACES and attribute not in ("buffer", "threadgroup"):
            raise NotMetal(f"kernel {kernel}: attribute {attribute} is unknown")
        if attribute == "buffer" and not re.match(r"(constant|device)\b", match[1]):
            raise NotMetal(f"kernel {kernel}: buffer {match[2]} is in no address space")
        if attribute == "threadgroup" and not match[1].startswith("threadgroup"):
            raise NotMetal(f"kernel {kernel}: {match[2]} is not in threadgroup memory")
        parameters.append(Parameter(match[1], match[2], attribute, int(index or 0)))
    for kind in ("buffer", "threadgroup"):
        used = [p.index for p in parameters if p.attribute == kind]
        if len(set(used)) != len(used):
            raise NotMetal(f"kernel {kernel}: a {kind} index is used twice")
        if any(i > 30 for i in used):
            raise NotMetal(f"kernel {kernel}: {kind} indices are 0 to 30")
    return parameters


def parse(text: str) -> list[Kernel]:
    for name, body in re.findall(r"^#define (\w+)[ \t]+((?:[^\n]*\\\n)*[^\n]*)", text, flags=re.M):
        if "[[" in body:  # parameters of kernels
            text = re.sub(rf"(?<!#define )\b{name}\b", lambda _: body.replace("\\\n", " "), text)  # noqa: B023
    functions: dict[str, tuple[bool, str, list[Parameter]]] = {}
    for match in re.finditer(r"(template\s*<[^<>]*>\s*)?(?:\[\[([^]]*)\]\]\s*)?\bkernel\s+void\s+(\w+)\s*\(", text):
        promise = re.fullmatch(r"max_total_threads_per_threadgroup\((\w+)\)", match[2] or "max_total_threads_per_threadgroup(0)")
        if promise is None:
            raise NotMetal(f"kernel {match[3]}: attribute {match[2]} is unknown")
        end, depth = match.end(), 1
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        functions[match[3]] = (match[1] is not None, promise[1], parse_parameters(match[3], text[match.end():end - 1]))
    kernels = [Kernel(name, name, threads, parameters) for name, (template, threads, parameters) in functions.items() if not template]
    named = set()
    for host_name, function, arguments in re.findall(
            r'template\s*\[\[\s*host_name\("(\w+)"\)\s*\]\]\s*kernel\s+\w+\s+(\w+)\s*<([^;]*)>\s*;', text):
        if function not in functions:
            raise NotMetal(f"{host_name} is an instance of {function}, which is no kernel")
        kernels.append(Kernel(host_name, f"{function}<{arguments}>", *functions[function][1:]))
        named.add(function)
    for name, (template, *_) in functions.items():
        if template and name not in named:
            raise NotMetal(f"kernel template {name} has no instance with a host_name")
    names = [kernel.host_name for kernel in kernels]
    if len(set(names)) != len(names):
        raise NotMetal("two kernels have the same name")
    return kernels


def call(kernel: Kernel) -> str:
    arguments = []
    for p in kernel.parameters:
        base = re.sub(r"\b(constant|device|threadgroup|const)\b", "", p.type).strip()
        if p.attribute == "buffer":
            if not base.endswith("&"):
                raise NotMetal(f"kernel {kernel.host_name}: only arguments by setBytes are modelled, not buffer {p.name}")
            arguments.append(f"buffer<{base.rstrip('& ')}>(arguments, {p.index})")
        elif p.attribute == "threadgroup":
            arguments.append(f"threadgroup_memory<{base.rstrip('* ')}>(arguments, {p.index})")
        else:
            scalar, vector = PLACES[p.attribute]
            arguments.append(vector if base == "uint3" else scalar)
    return ",\n       ".join(arguments)


def main(program: Path, folders: list[Path]) -> None:
    text = flatten(program, folders, set())
    kernels = parse(text)
    print("// Written by bind.py.")
    print(re.sub(r"\[\[.*?\]\]", "", text))
    print('#line 1 "calls of kernels, written by bind.py"')
    print("#undef kernel\n#undef device\n#undef threadgroup\n#undef constant\n#undef thread\n")
    print('#include "metal/library.h"\n\nnamespace {\n\nusing namespace emulator::metal;\nusing emulator::Place;\nusing emulator::place;\n')
    for number, kernel in enumerate(kernels):
        parameters = [f"{{Parameter::kBuffer, {p.index}, sizeof({p.type.replace('constant', '').rstrip('& ').strip()})}}"
                      for p in kernel.parameters if p.attribute == "buffer"]
        parameters += [f"{{Parameter::kThreadgroup, {p.index}, 0}}" for p in kernel.parameters if p.attribute == "threadgroup"]
        print(f"const Parameter parameters_{number}[] = {{{', '.join(parameters)}}};")
        print(f"void enter_{number}(void* arguments) {{\n  const Place& at = place;\n"
              "  const unsigned linear = at.thread.x + at.block_extent.x * (at.thread.y + at.block_extent.y * at.thread.z);\n"
              f"  (void)linear;\n  ::{kernel.function}(\n       {call(kernel)});\n}}")
        print(f'const Registration registration_{number}("{kernel.host_name}", '
              f"{{reinterpret_cast<const void*>(&::{kernel.function}), enter_{number}, "
              f"parameters_{number}, std::size(parameters_{number}), {kernel.threads}}});\n")
    print("}  // namespace")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), [Path(folder) for folder in sys.argv[2:]])
    except NotMetal as error:
        sys.exit(f"{sys.argv[1]}: error: {error}")
