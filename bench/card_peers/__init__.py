"""Others' kernels beside ours, on one card: `python -m bench.gpu_peers`. Reads best as problems.py, clock.py,
ours.py, race.py, and then the peers: torch_peers.py, triton_experts.py, marlin.py, humming_experts.py,
flash.py."""
