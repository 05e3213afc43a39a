"""A head: class names, weight and bias on one release's embeddings. It refuses those of any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from participant.heads.accuracy import Accuracy
from shared.domain.errors import HeadMismatch
from shared.domain.extractor import ExtractorSpec

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Head:
    """Logits of a record are `weight @ embedding + bias`; the scaling of features is already folded in."""

    classes: tuple[str, ...]
    weight: Floats
    """float32 [classes, D]."""
    bias: Floats
    """float32 [classes]."""
    spec: ExtractorSpec
    """How a record becomes an input: size, channels, mean and std of the extractor it was fitted on."""
    release_digest: str
    """Of the release whose embeddings it was fitted on; embeddings of another mean something else."""
    created_at: str
    labels_fitted: int
    """Records it was fitted on. Not hidden: a head never leaves its member."""
    missing_classes: tuple[str, ...]
    """Classes of the data set without one record to fit on; this head never predicts them."""
    inverse_regularisation: float
    """C of scikit-learn's LogisticRegression, on standardised features."""
    accuracy: Accuracy | None = None
    """On held-out records, once measured."""

    @property
    def embedding_dim(self) -> int:
        """D."""
        return int(self.weight.shape[1])

    def check(self, embeddings: npt.NDArray[np.floating], release_digest: str) -> None:
        """Raise HeadMismatch unless `embeddings` is [n, D] and comes from the release it was fitted on."""
        if release_digest != self.release_digest:
            raise HeadMismatch(
                f"This head was fitted on release {self.release_digest}, and the embeddings come from "
                f"{release_digest}. Nothing was predicted. Fit the head again on this release."
            )
        if embeddings.ndim != 2 or embeddings.shape[1] != self.embedding_dim:
            raise HeadMismatch(
                f"This head expects embeddings of shape [n, {self.embedding_dim}], found "
                f"{list(embeddings.shape)}. Nothing was predicted. Embed with the release it was fitted on."
            )

    def logits(self, embeddings: npt.NDArray[np.floating], *, release_digest: str) -> Floats:
        """float32 [n, classes]. Raises HeadMismatch."""
        self.check(embeddings, release_digest)
        return np.asarray(embeddings, np.float32) @ self.weight.T + self.bias

    def probabilities(self, embeddings: npt.NDArray[np.floating], *, release_digest: str) -> Floats:
        """Softmax of the logits, float32 [n, classes], rows sum to 1. Raises HeadMismatch."""
        logits = self.logits(embeddings, release_digest=release_digest)
        if len(logits) == 0:
            return logits
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), np.float32)

    def predict(self, embeddings: npt.NDArray[np.floating], *, release_digest: str) -> npt.NDArray[np.int64]:
        """Index into `classes` of the likeliest class, int64 [n]. Raises HeadMismatch."""
        logits = self.logits(embeddings, release_digest=release_digest)
        return np.asarray(np.argmax(logits, axis=1), np.int64)

    def predict_names(self, embeddings: npt.NDArray[np.floating], *, release_digest: str) -> Sequence[str]:
        """The likeliest class of each record by name. Raises HeadMismatch."""
        return [self.classes[k] for k in self.predict(embeddings, release_digest=release_digest)]
