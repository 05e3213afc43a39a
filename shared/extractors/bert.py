"""`bert`: the encoder of public sentence embeddings, with the names that its authors' tensors have.

Devlin et al. 2018, "BERT"; mean over the tokens and length 1 after it as in Reimers and Gurevych 2019,
"Sentence-BERT", section 3. Nothing of it is trained here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.domain.errors import InvalidConfig, InvalidWeights
from shared.domain.extractor import ExtractorSpec
from shared.extractors.bert_shape import NORM_EPSILON, TYPES, Shape, shape_of
from shared.extractors.layers import Extractor
from shared.extractors.wordpiece import WordPieces


class Embeddings(nn.Module):
    """ids [B, T] → [B, T, width]: word, place and type, added and normed."""

    def __init__(self, words: int, places: int, width: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(words, width)
        self.position_embeddings = nn.Embedding(places, width)
        self.token_type_embeddings = nn.Embedding(TYPES, width)
        self.LayerNorm = nn.LayerNorm(width, eps=NORM_EPSILON)

    def forward(self, ids: Tensor) -> Tensor:
        """int64 [B, T] → [B, T, width]."""
        # By index: what torch's exporter calls an embedding would have the name of our output.
        words = self.word_embeddings.weight.index_select(0, ids.flatten()).reshape(*ids.shape, -1)
        places = self.position_embeddings.weight[: ids.shape[1]]
        out: Tensor = self.LayerNorm(words + self.token_type_embeddings.weight[0] + places)
        return out


class SelfAttention(nn.Module):
    """Of every head, over the tokens that the mask has."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """[B, T, width] → the same shape; `seen` bool [B, 1, 1, T]."""
        query, key, value = (
            made.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for made in (self.query(tokens), self.key(tokens), self.value(tokens))
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        return mixed.transpose(1, 2).flatten(2)


class Added(nn.Module):
    """A Linear layer, added to what was before, then normed."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, width)
        self.LayerNorm = nn.LayerNorm(width, eps=NORM_EPSILON)

    def forward(self, made: Tensor, before: Tensor) -> Tensor:
        """[B, T, inputs] and [B, T, width] → [B, T, width]."""
        out: Tensor = self.LayerNorm(self.dense(made) + before)
        return out


class Attention(nn.Module):
    """Self-attention, added and normed."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self = SelfAttention(width, heads)
        self.output = Added(width, width)

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """[B, T, width] → the same shape."""
        out: Tensor = self.output(self.self(tokens, seen), tokens)
        return out


class Dense(nn.Module):
    """One Linear layer under the name that BERT's tensors have."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] → [..., outputs]."""
        out: Tensor = self.dense(x)
        return out


class Layer(nn.Module):
    """Attention, then two Linear layers with GELU between them; each added and normed after (post-norm)."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.intermediate = Dense(width, hidden)
        self.output = Added(hidden, width)

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """[B, T, width] → the same shape."""
        tokens = self.attention(tokens, seen)
        out: Tensor = self.output(F.gelu(self.intermediate(tokens)), tokens)
        return out


class Encoder(nn.Module):
    """The layers, one after the other."""

    def __init__(self, width: int, depth: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(width, heads, hidden) for _ in range(depth))

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """[B, T, width] → the same shape."""
        for layer in self.layer:
            tokens = layer(tokens, seen)
        return tokens


class Bert(Extractor):
    """Bytes [B, 1, 1, L] → [B, embedding_dim] of length 1.

    It has no words until `read_with`: they come with the weights.
    """

    def __init__(self, width: int, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.vocabulary: tuple[str, ...] = ()
        self.embeddings = Embeddings(shape.words, shape.places, width)
        self.encoder = Encoder(width, shape.depth, shape.heads, shape.hidden)
        # No part of the embedding: it is here so that the file is all of what its authors published.
        self.pooler = Dense(width, width)
        self._words: WordPieces | None = None
        self.requires_grad_(False)

    def read_with(self, vocabulary: tuple[str, ...]) -> None:
        """Cut texts by this vocabulary. Raises InvalidWeights where it has not one word for each row of the table."""
        if len(vocabulary) != self.shape.words:
            raise InvalidWeights(
                f"Expected a vocabulary of {self.shape.words} words, one for each row of the table, found "
                f"{len(vocabulary)}. They were not loaded. Get the file again from its release, and verify it."
            )
        self._words = WordPieces(vocabulary, self.shape.tokens)
        self.vocabulary = vocabulary

    def forward(self, x: Tensor) -> Tensor:
        """[B, 1, 1, L] → [B, embedding_dim]. Raises InvalidConfig before `read_with`."""
        if self._words is None:
            raise InvalidConfig(
                "A bert without its vocabulary cannot read. Nothing was embedded. Load it from its weights file."
            )
        ids, mask = self._words(x.detach().float().cpu().numpy())
        return self.of_tokens(torch.from_numpy(ids).to(x.device), torch.from_numpy(mask).to(x.device))

    def of_tokens(self, ids: Tensor, mask: Tensor) -> Tensor:
        """int64 [B, T], and 1 where a text is and 0 behind it → [B, embedding_dim]: what ONNX holds."""
        tokens = self.encoder(self.embeddings(ids), mask[:, None, None, :] > 0)
        kept = mask[..., None].to(tokens.dtype)
        mean = (tokens * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1.0)
        return F.normalize(mean, dim=1)

    def last_block(self) -> list[nn.Module]:
        """None: nothing of it is trained."""
        return []


def bert(spec: ExtractorSpec) -> Bert:
    """Options: words 30522, places 512, depth 6, heads 12, hidden 1536, tokens 256; its width is embedding_dim."""
    return Bert(spec.embedding_dim, shape_of(spec))
