"""Stages, whole steps and the start of gptoss_native, each beside the ceiling of the machine it ran on."""
