"""Whether this machine's devices compute what they should; `gptoss-native selftest` is its command line.

Every kernel of a device, over small shapes and those of gpt-oss-20b and 120b, against float64 (ops.reference, plain
numpy that no device takes part in), and then a whole model, the demonstration model, against the same in float64.
It reads best in this order: compare (a result beside what it should be), cases (the kernels' operands and oracles),
model, run (all of it on one device), report.
"""
