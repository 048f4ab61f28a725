"""What the modelled engine costs, and where each figure comes from.

| constant | value | source |
|---|---|---|
| prefill rate | 8,000 tokens/s | SMG's `mock_worker` |
| decode step | 6.0 ms + 0.35 ms per sequence | SMG's `mock_worker` |
| KV cache | 524,288 tokens in blocks of 16 | SMG's `mock_worker`; 16 is vLLM's default block size |
| context read | 39 ns per token and step | 131,072 B of KV per token of Llama-3.1-8B, over an H100's 3.35 TB/s |
| token budget of a step | 2,048; on H100 8,192 | what vLLM's API server sets for `max_num_batched_tokens` |
| sequences in a batch | 256; on H100 1,024 | the same for `max_num_seqs` |
| adapter slots | 4 | our choice: vLLM's default is 1, the reference's benchmark of many adapters uses 3 |
| adapter load | 50 ms | about 170 MB (rank 64) over PCIe and its set-up; an estimate, not a published figure |

Two profiles are fitted to what NVIDIA publishes of its NIM containers (version 1.8.0, docs.nvidia.com/nim/benchmarking/
llm/1.0.0/performance); `python -m bench.routing.calibrate` shows model and publication side by side:

| constant | 70B, FP8, 2 H100 | 8B, 1 H100 | from |
|---|---|---|---|
| decode step | 18.3 ms + 0.02 ms | 4.6 ms + 0.015 ms | time between tokens of one stream, and of many |
| context read | 30 ns | 30 ns | the same: KV in FP8, 164 KB a token, at four fifths of the memory's speed |
| prefill rate | 14,000 tokens/s | 27,000 tokens/s | throughput with a full cache; about the same FLOP/s on one GPU in BF16 |
| KV cache | 28,000 blocks | 27,000 blocks | where the published queue begins; 0.9 x 80 GB less weights of 16 GB |
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Speed and size of one engine. Times in seconds."""

    prefill_rate: float = 8_000.0
    """Prompt tokens per second when nothing else runs."""
    decode_base: float = 0.006
    """A step's floor: reading the weights once."""
    decode_per_sequence: float = 0.00035
    context_read: float = 0.0
    """Per token of context that a step attends to: what KV pressure costs."""
    kv_blocks: int = 32_768
    block_size: int = 16
    max_batched_tokens: int = 2_048
    max_sequences: int = 256
    adapter_slots: int = 4
    adapter_load: float = 0.05

    @property
    def max_model_len(self) -> int:
        """The longest sequence that fits, in tokens."""
        return self.kv_blocks * self.block_size

    def scaled(self, factor: float) -> Profile:
        """Return the same engine, `factor` times as fast."""
        return dataclasses.replace(
            self,
            prefill_rate=self.prefill_rate * factor,
            decode_base=self.decode_base / factor,
            decode_per_sequence=self.decode_per_sequence / factor,
            context_read=self.context_read / factor,
            adapter_load=self.adapter_load / factor,
        )


SMG_MOCK = Profile()
"""Exactly what SMG publishes: decoding does not feel the length of the context."""

LLAMA_8B_H100 = Profile(context_read=3.9e-8, max_batched_tokens=8_192, max_sequences=1_024)
"""The same rates with the cost of reading the context and the batch of a large GPU. Not calibrated."""

LLAMA_70B_NIM = Profile(
    prefill_rate=14_000.0,
    decode_base=0.0183,
    decode_per_sequence=0.00002,
    context_read=3e-8,
    kv_blocks=28_000,
    max_batched_tokens=8_192,
    max_sequences=1_024,
)
"""Llama 70B in FP8 on two H100, fitted to NVIDIA's published times."""

LLAMA_8B_NIM = Profile(
    prefill_rate=27_000.0,
    decode_base=0.0046,
    decode_per_sequence=0.000015,
    context_read=3e-8,
    kv_blocks=27_000,
    max_batched_tokens=8_192,
    max_sequences=1_024,
)
"""Llama 8B on one H100, fitted likewise."""

DEMO_SPEED = 50.0
"""So that one machine without a GPU serves hundreds of requests per second, and 4 MB of prompt in 2.5 s."""

DEMO = dataclasses.replace(LLAMA_8B_H100.scaled(DEMO_SPEED), kv_blocks=131_072)
"""Fast, and with room for a prompt of 4 MB (a million tokens), which no 8B model would take."""

PROFILES = {"demo": DEMO, "llama-8b-h100": LLAMA_8B_H100, "smg-mock": SMG_MOCK}
