"""Distributions: draw, log-density, divergence, mode. They know no network, optimiser or file.

Parameters and values are rows first, ``(N, …)``; ``log_prob``, ``kl`` and ``entropy`` sum over all
axes but the first and return ``(N,)`` nats. Noise comes from a ``RandomStream``, row by row.
"""
