"""Read-only views of a prepared dataset and of a tokenizer's training.

``dataset`` counts once what there is to see, into the types of ``facts``; ``text`` and ``html``
only format it.
"""

from hidvae.apps.show.inspection.tokenizer_training import describe_tokenizer_training
from hidvae.apps.show.inspection.view import inspect_dataset

__all__ = ["describe_tokenizer_training", "inspect_dataset"]
