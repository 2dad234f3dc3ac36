"""The other side of bench_search: rectokens, in a process and an environment of its own.

Started by bench_search, not by hand: it reads one line with the task (JSON), answers with one line,
and then runs one search for every further line. It needs rectokens and transformers, not hidvae.

rectokens refuses to be imported without CUDA, as its constrained step is a Triton kernel. It ships
the same step in plain PyTorch (``vtnk_pytorch``); here that is put in the kernel's place, and the
rest of its generation runs unchanged, on the CPU.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from types import ModuleType
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # both sides run on the CPU

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

GENERATION = "rectokens.decoding.constrained_decoding"
KERNELS = "rectokens.kernels.constrained_node_transition"


def main() -> None:
    """Answer over standard input and output."""
    task = json.loads(sys.stdin.readline())
    torch.set_num_threads(task["threads"])
    error = import_error()
    if error:
        sys.modules[KERNELS] = plain_kernels()
    generate = prepare(task)
    valid = {tuple(row) for row in np.load(task["codes"]).tolist()}
    found = generate()[:, :, : task["num_levels"]].flatten(0, 1)
    offsets = torch.arange(task["num_levels"]) * task["codebook_size"]
    found_valid = [tuple(row) in valid for row in (found - offsets).tolist()]
    print(json.dumps({"error": error, "valid": sum(found_valid) / len(found_valid)}), flush=True)
    for _ in sys.stdin:
        generate()
        print("done", flush=True)


def import_error() -> str:
    """What rectokens says when its generation is imported as it is; empty if that works."""
    try:
        importlib.import_module(GENERATION)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def plain_kernels() -> ModuleType:
    """A module in the kernels' place; only the step that the plain path calls is there."""
    from rectokens.decoding.vntk import vtnk_pytorch

    class Step:
        """What ``vtnk_pytorch`` reads of a trie."""

        def __init__(self, row_ptrs: Any, cols_vals: Any, max_branches: int) -> None:
            self.row_ptrs, self.stacked_cols_vals = row_ptrs, cols_vals
            self.layer_max_branches = [max_branches]

    def transition(
        logits: Any, cur_node: Any, row_ptrs: Any, cols_vals: Any, max_branches: int
    ) -> Any:
        return vtnk_pytorch(logits, cur_node, Step(row_ptrs, cols_vals, max_branches), 0)

    module: Any = ModuleType(KERNELS)
    module._constrained_node_transition_op = transition
    for name in ("", "_sampling", "_topk"):
        setattr(module, f"_fused_linear_constrained_node_transition{name}_op", None)
    return module


def prepare(task: dict[str, Any]) -> Any:
    """One search over all users of the task: a GPT-2 of the task's size reads flattened codes."""
    generation: Any = importlib.import_module(GENERATION)
    from rectokens.schemas.compact_csr_trie import CompactCSRTrie
    from rectokens.schemas.config import GenerationConfig

    num_levels, size = task["num_levels"], task["codebook_size"]
    tokens = torch.from_numpy(np.load(task["codes"])) + torch.arange(num_levels) * size
    order = np.lexsort(tokens.numpy().T[::-1])  # from_sorted_batch wants sorted rows
    trie = CompactCSRTrie.from_sorted_batch(tokens[order], num_levels * size, num_levels - 1)
    prompts = tokens[torch.from_numpy(np.load(task["histories"]))].flatten(1)  # (B, T M)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=num_levels * size,
            n_positions=prompts.shape[1] + num_levels,
            n_embd=task["dim"],
            n_layer=task["num_layers"],
            n_head=task["num_heads"],
            bos_token_id=0,
            eos_token_id=0,
        )
    ).eval()
    config = GenerationConfig(
        steps=num_levels, k=task["beams"], beam_size=task["beams"], temperature=0.0
    )
    return lambda: generation.autoregressive_generate(
        model, trie, prompts, config, use_sparse_linear=False
    )


if __name__ == "__main__":
    main()
