"""The experiments behind docs/results.md; ``python -m scripts.experiments --help`` lists them."""
