"""Models of a few thousand random weights, saved as folders; nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]


def save_tiny_bert(folder: Path, *, pooling: str = "mean") -> Path:
    """A sentence-transformers BERT that spells words letter by letter: (n, 8) unit rows."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import (
        Dense,
        Normalize,
        Pooling,
        Transformer,
    )
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True)
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*specials, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder / "bert")
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64)
    tokenizer.save_pretrained(folder / "bert")
    modules = [
        Transformer(str(folder / "bert")),
        Pooling(16, pooling_mode=pooling),
        Dense(16, 8),
        Normalize(),
    ]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "model"))
    return folder / "model"


def save_tiny_clip(folder: Path) -> Path:
    """A CLIP for images of 16 x 16: (n, 12) unit rows."""
    import torch
    from transformers import (
        CLIPConfig,
        CLIPImageProcessorPil,
        CLIPModel,
        CLIPProcessor,
        CLIPTokenizer,
    )

    folder.mkdir(parents=True)
    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    small = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "projection_dim": 12,
    }
    start, end = len(words) - 2, len(words) - 1
    text = {"max_position_embeddings": 16, "bos_token_id": start, "eos_token_id": end}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**small, **text, "pad_token_id": end, "vocab_size": len(words)},
        vision_config={**small, "image_size": 16, "patch_size": 8},
        projection_dim=12,
    )
    CLIPModel(config).save_pretrained(folder / "clip")
    images = CLIPImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
    )
    CLIPProcessor(images, tokenizer).save_pretrained(folder / "clip")
    return folder / "clip"
