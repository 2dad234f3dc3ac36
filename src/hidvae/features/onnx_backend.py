"""Run a sentence-transformers model with int8 weights on onnxruntime.

The transformer itself (ids to token vectors) is exported once to ONNX, its matrix products are
quantized, and the file is kept in the cache; pooling, dense and normalising modules run as they
are. Products that narrow (the second of a feed-forward block) stay in float: what they multiply
has outliers, and quantizing them too doubles the error (docs/embeddings.md has the numbers).
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hidvae.errors import ConfigError, MissingExtraError
from hidvae.features.sentence_model import model_key
from hidvae.store.cache import cache_folder

logger = logging.getLogger(__name__)

_PACKAGES = ("onnxruntime", "onnx", "onnxscript")
_TOKEN_VECTORS = "token_embeddings"


class QuantizedModel:
    """The model with its transformer replaced by a quantized copy."""

    def __init__(self, model: Any, name: str):
        """Export and quantize ``model``, or take the copy in the cache.

        Args:
            model: A SentenceTransformer whose first module makes token vectors.
            name: What the configuration calls it; the cache's key.

        Raises:
            ConfigError: If the model is of another kind or cannot be exported.
            MissingExtraError: If one of onnxruntime, onnx and onnxscript is not installed.
        """
        missing = [package for package in _PACKAGES if importlib.util.find_spec(package) is None]
        if missing:
            raise MissingExtraError(
                f"EmbeddingConfig.text_backend = 'onnx-int8' needs {', '.join(missing)}, which is "
                'not installed; run pip install "hidvae[onnx]", or set '
                "EmbeddingConfig.text_backend=torch"
            )
        self._model = model.to("cpu")
        self._modules = list(model)
        # sentence-transformers 6 renamed the method
        self._tokenize = model.preprocess if hasattr(model, "preprocess") else model.tokenize
        self._inputs = self._check(name)
        self._session = self._open(self._quantized_file(name))

    def encode(self, texts: list[str]) -> np.ndarray:
        """One batch: (n, dim) float32, rows L2-normalised."""
        import torch

        with torch.inference_mode():
            features = self._tokenize(texts)
            feed = {name: features[name].numpy() for name in self._inputs}
            features[_TOKEN_VECTORS] = torch.from_numpy(self._session.run(None, feed)[0])
            for module in self._modules[1:]:
                features = module(features)
            vectors = features["sentence_embedding"].float()
            return torch.nn.functional.normalize(vectors, dim=1).numpy()

    def _check(self, name: str) -> list[str]:
        """Names of the transformer's tensors; ConfigError if it makes no token vectors."""
        import torch

        features = self._tokenize(["a text", "another, longer text"])
        inputs = [key for key, value in features.items() if isinstance(value, torch.Tensor)]
        with torch.inference_mode():
            vectors = self._modules[0](dict(features)).get(_TOKEN_VECTORS)
        if vectors is None or vectors.ndim != 3 or not inputs:
            raise ConfigError(
                "EmbeddingConfig.text_backend: onnx-int8 runs models whose first module is a "
                f"transformer with a vector per token; found {type(self._modules[0]).__name__} in "
                f"{name!r}; set EmbeddingConfig.text_backend=torch"
            )
        return inputs

    def _quantized_file(self, name: str) -> Path:
        file = cache_folder() / "models" / model_key(name, "onnx-int8") / "model.onnx"
        if file.is_file():
            return file
        logger.info("%s: exporting to ONNX and quantizing, once; kept in %s", name, file.parent)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=file.parent) as folder:
                plain, small = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
                self._export(plain, name)
                _quantize(plain, small)
                os.replace(small, file)
        except OSError as error:
            raise ConfigError(
                f"EmbeddingConfig.text_backend: onnx-int8 keeps its model in {file.parent}, which "
                f"cannot be written ({error.strerror or error}); set $HIDVAE_CACHE to a folder "
                "with space, or EmbeddingConfig.text_backend=torch"
            ) from error
        return file

    def _export(self, file: Path, name: str) -> None:
        import torch

        features = self._tokenize(["a text", "another, longer text"])
        dynamic = torch.export.Dim.DYNAMIC
        try:
            with _quiet():
                torch.onnx.export(
                    _token_vectors_of(self._modules[0], self._inputs).eval(),
                    tuple(features[key] for key in self._inputs),
                    file,
                    input_names=self._inputs,
                    output_names=[_TOKEN_VECTORS],
                    dynamic_shapes=(tuple({0: dynamic, 1: dynamic} for _ in self._inputs),),
                    dynamo=True,
                    external_data=False,
                    verbose=False,
                )
        except Exception as error:  # whatever the exporter meets, the answer is the same
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(
                f"EmbeddingConfig.text_backend: {name!r} cannot be exported to ONNX "
                f"({reason[:200]}); set EmbeddingConfig.text_backend=torch"
            ) from error

    def _open(self, file: Path) -> Any:
        import onnxruntime
        import torch

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no base of their own
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"EmbeddingConfig.text_backend: {file} cannot be loaded ({reason[:200]}); delete "
                "it and run the same command again"
            ) from error


def _token_vectors_of(transformer: Any, inputs: list[str]) -> Any:
    """The module as a function of tensors, in the order of ``inputs``."""
    import torch

    class TokenVectors(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = transformer

        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            features = dict(zip(inputs, tensors, strict=True))
            vectors: torch.Tensor = self.transformer(features)[_TOKEN_VECTORS]
            return vectors

    return TokenVectors()


def _quantize(plain: Path, small: Path) -> None:
    """Weights of matrix products to int8, a scale per column; activations as they come."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(plain).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    weights = {
        node.name: shapes.get(node.input[1], ()) for node in graph.node if node.op_type == "MatMul"
    }
    narrowing = [name for name, shape in weights.items() if len(shape) == 2 and shape[0] > shape[1]]
    with _quiet():
        quantize_dynamic(
            plain,
            small,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=narrowing,
            per_channel=True,
            weight_type=QuantType.QInt8,
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporter and quantizer tell the root logger and the warnings things no user can act on."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
