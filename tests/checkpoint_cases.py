"""Ways to break a checkpoint, by name: what is done to the folder, and what the refusal has to say."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from checkpoint_layouts import save
from make_checkpoint import hf_config, make_tensors, write_hf

CONFIG = hf_config(num_hidden_layers=2, hidden_size=32, intermediate_size=64, num_local_experts=4,
                   num_attention_heads=4, num_key_value_heads=2, head_dim=16, vocab_size=24)
TENSORS = make_tensors(CONFIG)
FIRST, SECOND = "model-00000-of-00001.safetensors", "model-00001-of-00001.safetensors"
INDEX = "model.safetensors.index.json"
NORM = "model.norm.weight"
BIAS = "model.layers.0.mlp.experts.down_proj_bias"
SCALES = "model.layers.1.mlp.experts.down_proj_scales"

Header = dict[str, Any]
Damage = Callable[[Path], None]


def rewrite_json(name: str, edit: Callable[[dict[str, Any]], Any]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / name
        data = json.loads(path.read_text())
        edited = edit(data)
        path.write_text(json.dumps(data if edited is None else edited))
    return damage


def rewrite_header(edit: Callable[[Header], Any], name: str = SECOND, extra: bytes = b"") -> Damage:
    """Change the JSON of a safetensors header; lengths stay right, and `extra` is put behind the data."""
    def damage(folder: Path) -> None:
        path = folder / name
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        entries = json.loads(data[8:8 + length])
        edited = edit(entries)
        text = edited if isinstance(edited, bytes) else json.dumps(entries).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length:] + extra)
    return damage


def rewrite_bytes(edit: Callable[[bytes], bytes], name: str = SECOND) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes(edit((folder / name).read_bytes()))
    return damage


def set_field(**fields: Any) -> Damage:
    return rewrite_json("config.json", lambda config: config.update(fields))


def set_entry(**fields: Any) -> Damage:
    return rewrite_header(lambda header: header[NORM].update(fields))


def move(name: str, by: int, only_begin: bool = False) -> Callable[[Header], None]:
    def edit(header: Header) -> None:
        begin, end = header[name]["data_offsets"]
        header[name]["data_offsets"] = [begin + by, end if only_begin else end + by]
    return edit


def set_place(tensor: str, file: object) -> Damage:
    return rewrite_json(INDEX, lambda index: index["weight_map"].update({tensor: file}))


def with_tensors(changes: dict[str, Any]) -> Damage:
    """Write the checkpoint with some tensors replaced, added or, for None, left out."""
    def damage(folder: Path) -> None:
        shutil.rmtree(folder)
        changed = TENSORS | changes
        write_hf(folder, CONFIG, {name: tensor for name, tensor in changed.items() if tensor is not None}, files=2)
    return damage


def poke(tensor: str, at: tuple[int, ...], value: int) -> Damage:
    changed = TENSORS[tensor].copy()
    changed[at] = value
    return with_tensors({tensor: changed})


def duplicate_key(text: bytes) -> bytes:
    """The first member of the innermost first object, twice."""
    begin = text.index(b'"', text.index(b"{", 1)) if text.count(b"{") > 1 else text.index(b'"')
    end = text.index(b",", begin)
    return text[:begin] + text[begin:end] + b"," + text[begin:]


def repeat_tensor_in_header(header: Header) -> bytes:
    text = json.dumps(header)
    return (text[:-1] + f', "{NORM}": {json.dumps(header[NORM])}}}').encode()


def put_in_both_files(folder: Path) -> None:
    with (folder / FIRST).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        kept = {name: TENSORS[name] for name in json.loads(file.read(length))}
    save(folder / FIRST, kept | {NORM: TENSORS[NORM]})


def replace_by_folder(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()
    return damage


def replace_by_pipe(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)
    return damage


CASES: dict[str, tuple[Damage, str]] = {
    # files
    "truncated by one byte": (rewrite_bytes(lambda d: d[:-1]), f"{SECOND}: .* promised .*truncated"),
    "truncated in the header": (rewrite_bytes(lambda d: d[:100]), f"{SECOND}: a header of at most 92 bytes"),
    "truncated to 7 bytes": (rewrite_bytes(lambda d: d[:7]), f"{SECOND}: 7 bytes are too few"),
    "empty": (rewrite_bytes(lambda d: b""), f"{SECOND}: 0 bytes are too few"),
    "only a length": (rewrite_bytes(lambda d: d[:8]), f"{SECOND}: a header of at most 0 bytes"),
    "a byte too many": (rewrite_bytes(lambda d: d + b"x"), f"{SECOND}: .*1 more byte follows;"),
    "an absurd header length": (rewrite_bytes(lambda d: b"\xff" * 8 + d[8:]), "should have 18,446,744,073,709,551,615"),
    "a Git LFS pointer": (rewrite_bytes(lambda d: b"version https://git-lfs.github.com/spec/v1\n" + d), "git lfs pull"),
    "shard missing": (lambda folder: (folder / SECOND).unlink(), f"{INDEX}: .*{SECOND}.*not in the folder"),
    "shard is a folder": (replace_by_folder(SECOND), f"{SECOND}: .*not a regular file"),
    "shard is a pipe": (replace_by_pipe(SECOND), f"{SECOND}: .*not a regular file"),
    "index missing": (lambda folder: (folder / INDEX).unlink(), f"gpt-oss: 2 .safetensors files, but no {INDEX}"),
    "config missing": (lambda folder: (folder / "config.json").unlink(), "config.json: cannot be read .*; download it too"),
    "config is a folder": (replace_by_folder("config.json"), "config.json: .*not a regular file"),
    "config is huge": (rewrite_bytes(lambda d: d + b" " * (1 << 24), "config.json"), "config.json: at most"),
    # headers
    "header is not UTF-8": (rewrite_header(lambda h: b'{"\xff": 1}'), f"{SECOND}: header: not UTF-8 at byte 2"),
    "header is UTF-16": (rewrite_header(lambda h: json.dumps(h).encode("utf-16")), f"{SECOND}: header: not UTF-8"),
    "header is not JSON": (rewrite_header(lambda h: b'{"a" 1}'), f"{SECOND}: header: not JSON"),
    "header is a list": (rewrite_header(lambda h: b"[]"), f"{SECOND}: header: a JSON object is expected"),
    "header is nested": (rewrite_header(lambda h: b"[" * 90_000), f"{SECOND}: header: nested too deeply"),
    "header has half a surrogate pair": (rewrite_header(lambda h: b'{"\\ud800": 1}'),
                                         f"{SECOND}: header: a text holds half a surrogate pair"),
    "header begins with a blank": (rewrite_header(lambda h: b" " + json.dumps(h).encode()),
                                   f"{SECOND}: the header should begin with '{{', but begins with b' '"),
    "header has NaN": (set_entry(shape=[float("nan")]), f"{SECOND}: header: NaN is not JSON"),
    "header has an endless integer": (rewrite_header(lambda h: b'{"a": ' + b"9" * 9999 + b"}"),
                                      "header: a number of thousands of digits; download"),
    "header without tensors": (rewrite_header(lambda h: b"{}"), f"{SECOND}: .* more bytes follow;"),
    "tensor twice in a header": (rewrite_header(repeat_tensor_in_header), f"header: the key '{NORM}' occurs twice"),
    "dtype twice in an entry": (
        rewrite_header(lambda h: duplicate_key(json.dumps(h).encode())), "header: the key 'dtype' occurs twice"),
    "metadata of the wrong kind": (rewrite_header(lambda h: h.update(__metadata__={"a": 1})), "__metadata__ should"),
    # entries
    "entry is no object": (rewrite_header(lambda h: h.update({NORM: 5})), f"'{NORM}' should have dtype, shape and"),
    "entry without offsets": (rewrite_header(lambda h: h[NORM].pop("data_offsets")), f"'{NORM}' should have dtype"),
    "entry with more": (set_entry(stride=[1]), f"tensor '{NORM}' should have dtype"),
    "dtype unknown": (set_entry(dtype="BF17"), f"tensor '{NORM}': dtype should be BF16 or U8, but is 'BF17'"),
    "dtype no string": (set_entry(dtype=["BF16"]), f"tensor '{NORM}': dtype should be"),
    "shape negative": (set_entry(shape=[-32]), f"tensor '{NORM}': shape should be a list of sizes, but is \\[-32\\]"),
    "shape of floats": (set_entry(shape=[32.0]), f"tensor '{NORM}': shape should be"),
    "shape of bools": (set_entry(shape=[32, True]), f"tensor '{NORM}': shape should be"),
    "shape no list": (set_entry(shape=32), f"tensor '{NORM}': shape should be"),
    "shape overflows": (set_entry(shape=[2**32, 2**32]), f"tensor '{NORM}': shape .* larger than any file"),
    "shape overflows to nothing": (set_entry(shape=[2**62, 2**62, 0]), f"tensor '{NORM}': shape .* larger than any"),
    "shape beyond 64 bits": (set_entry(shape=[2**64 + 32]), f"tensor '{NORM}': shape should be"),
    "shape of many axes": (set_entry(shape=[1] * 1000 + [32]), f"tensor '{NORM}': shape should be"),
    "shape and offsets differ": (set_entry(shape=[33]), f"tensor '{NORM}': BF16 of shape \\[33\\] takes 66 bytes"),
    "offsets reversed": (rewrite_header(lambda h: h[NORM]["data_offsets"].reverse()), f"'{NORM}': data_offsets should"),
    "offsets negative": (set_entry(data_offsets=[-64, 0]), f"tensor '{NORM}': data_offsets should be"),
    "offsets of bools": (set_entry(data_offsets=[False, 64]), f"tensor '{NORM}': data_offsets should be"),
    "three offsets": (set_entry(data_offsets=[0, 64, 64]), f"tensor '{NORM}': data_offsets should be"),
    "offsets out of range": (rewrite_header(move(NORM, 1 << 40)), f"{SECOND}: .*promised"),
    "offsets overlap": (rewrite_header(move(NORM, -64)), f"{SECOND}: data_offsets of tensor .*overlap"),
    "offsets leave a gap": (rewrite_header(lambda h: h.pop(NORM)), f"{SECOND}: data_offsets of tensor .*leave a gap"),
    # index
    "index is not JSON": (rewrite_bytes(lambda d: d[:-9], INDEX), f"{INDEX}: not JSON"),
    "index is a list": (rewrite_json(INDEX, lambda i: [i]), f"{INDEX}: a JSON object is expected"),
    "index without weight_map": (rewrite_json(INDEX, lambda i: {"metadata": {}}), f"{INDEX}: weight_map should"),
    "weight_map is a list": (rewrite_json(INDEX, lambda i: {"weight_map": [1]}), f"{INDEX}: weight_map should map"),
    "tensor twice in the index": (
        rewrite_bytes(lambda d: d.replace(b'map": {', f'map": {{"{NORM}": "{SECOND}",'.encode()), INDEX),
        f"{INDEX}: the key '{NORM}' occurs twice"),
    "index with a number for a file": (set_place(NORM, 7), f"{INDEX}: tensor '{NORM}' should be in 7; the name of"),
    "index leaves the folder": (set_place(NORM, f"../gpt-oss/{SECOND}"), f"{INDEX}: tensor '{NORM}' .*not a path"),
    "index leaves the folder at the root": (set_place(NORM, "/tmp/model.safetensors"), f"{INDEX}: .*not a path"),
    "index leaves the folder on Windows": (set_place(NORM, "..\\model.safetensors"), f"{INDEX}: .*{NORM}.*not a path"),
    "index names a file of another kind": (set_place(NORM, "config.json"), "name of a .safetensors file is expected"),
    "index names a NUL": (set_place(NORM, "a\0.safetensors"), f"{INDEX}: tensor '{NORM}' .* not in the folder"),
    "index names the wrong shard": (
        set_place(NORM, FIRST), f"{SECOND}: holds tensor '{NORM}', but {INDEX} places it in '{FIRST}'"),
    "index lists too little": (rewrite_json(INDEX, lambda i: i["weight_map"].pop(NORM) and None),
                               f"{SECOND}: holds tensor '{NORM}', but {INDEX} does not list it"),
    "index lists too much": (set_place("model.more", FIRST), f"{FIRST}: {INDEX} places tensor 'model.more' here, but"),
    "tensor in two shards": (put_in_both_files, f"{FIRST}: holds tensor '{NORM}', but {INDEX} places it in '{SECOND}'"),
    # tensors and config
    "tensor missing": (with_tensors({NORM: None}), f"gpt-oss: of 41 tensors 1 is missing: '{NORM}'"),
    "tensor unknown": (with_tensors({"model.layers.0.self_attn.k_scale": TENSORS[NORM]}),
                       "safetensors: a gpt-oss model of this config does not have 'model.layers.0.self_attn.k_scale'"),
    "tensor renamed": (with_tensors({NORM: None, "model.final_norm.weight": TENSORS[NORM]}),
                       f"1 is missing: '{NORM}'; 'model.final_norm.weight' is not known"),
    "dtype wrong": (with_tensors({NORM: TENSORS[NORM].view(np.uint8)}), f"tensor {NORM} should be BF16, but is U8"),
    "shape wrong": (with_tensors({NORM: TENSORS[NORM][:31]}),
                    f"{NORM} should have shape \\[32\\] by .*config.json \\(hidden_size = 32\\), but has \\[31\\]"),
    "axes exchanged": (with_tensors({BIAS: TENSORS[BIAS].T.copy()}),
                       f"{BIAS} should have shape \\[4, 32\\] by .* but has \\[32, 4\\]"),
    "config of another width": (set_field(hidden_size=64), "should have shape .*config.json.*hidden_size = 64"),
    "config of other experts": (set_field(num_local_experts=8), "router.*should have shape.*num_local_experts = 8"),
    "config of other heads": (set_field(num_attention_heads=8), "num_attention_heads \\* head_dim = 128"),
    "config of another vocabulary": (set_field(vocab_size=25), "model.embed_tokens.*vocab_size = 25"),
    "config of more layers": (set_field(num_hidden_layers=3, layer_types=None),
                              "config.json: num_hidden_layers is 3, but the files hold 2 layers"),
    "config of fewer layers": (set_field(num_hidden_layers=1, layer_types=None),
                               "num_hidden_layers is 1, but the files hold 2 layers .the last has 'model.layers.1"),
    "config of very many layers": (set_field(num_hidden_layers=65536, layer_types=None), "the files hold 2 layers"),
    "config of another model": (set_field(model_type="llama"), "config.json: model_type should be 'gpt_oss'"),
    "config with a key twice": (rewrite_bytes(lambda d: d.replace(b"{", b'{"head_dim": 16,', 1), "config.json"),
                                "config.json: the key 'head_dim' occurs twice"),
    "config with Infinity": (set_field(rope_theta=float("inf")), "config.json: Infinity is not JSON"),
    "config with 1e999": (rewrite_bytes(lambda d: d.replace(b"150000", b"1e999"), "config.json"),
                          "config.json: rope_theta should be a finite number above 1, but is inf"),
    "eos outside the vocabulary": (set_field(eos_token_id=24), "config.json: eos_token_id should be .* from 0 to 23"),
    # values
    "a scale of 255": (poke(SCALES, (3, 31, 1), 255), f"tensor {SCALES} should hold E8M0 .* 255, .* at \\[3, 31, 1\\]"),
    "NaN in a norm": (poke(NORM, (7,), 0x7FC0), f"tensor {NORM} should hold finite numbers, but has a NaN at \\[7\\]"),
    "infinity in the sinks": (poke("model.layers.1.self_attn.sinks", (3,), 0xFF80), "sinks .* an infinity at \\[3\\]"),
    "NaN in a bias": (poke(BIAS, (2, 5), 0xFFFF), "down_proj_bias .*at \\[2, 5\\]"),
    "NaN in the router": (poke("model.layers.0.mlp.router.weight", (0, 0), 0x7F81), "router.weight .* a NaN at"),
}
