"""How fast this machine runs a model, beside what the machine can do; `gptoss-native bench` is its command line.

It reads best in this order: costs (bytes and FLOPs that there is no way around), measure (rounds, ceilings, spreads,
rows), setup (how the model is run), then what is measured: stages, steps, serving, startup; run (all of it in order);
kernel_costs, kernel_cases, kernels (each kernel alone); and what is made of the rows: report, regressions, plot.
bench/README.md of the sources says what the columns mean.
"""
