"""Stage 1: the HiD-VAE tokenizer, from item embeddings to semantic IDs."""
