"""What of an extractor is trained: all of it, its last block, its channels' scales (film), or low-rank changes (lora).

Fewer trained coordinates mean less noise and fewer bytes. What a spec says of it is read by `scope_shape`; what a scope
does not train lies frozen in the weights file.
"""

from __future__ import annotations

from torch import Tensor, nn

from shared.domain.errors import InvalidConfig
from shared.domain.extractor import ExtractorSpec
from shared.extractors.layers import ChannelAffine, Extractor, StandardisedConv2d
from shared.extractors.scope_shape import Scope


def check_no_scope(spec: ExtractorSpec, scope: Scope) -> None:
    """Raise InvalidConfig where a scope would narrow what trains nothing."""
    if scope.kind != "all":
        raise InvalidConfig(
            f"Architecture {spec.architecture!r} has nothing to train: expected no scope, found {scope.kind!r}. "
            "Nothing was built. Remove the scope."
        )


def apply_scope(module: Extractor, scope: Scope) -> None:
    """Freeze, in place, what the scope does not train, and add what it needs. Raises InvalidConfig.

    | scope | trained |
    |---|---|
    | all | what the architecture trains |
    | last_block | of that, what lies in `module.last_block()` |
    | film | scale and shift of every norm (Perez et al. 2018); norms without them get them, as the identity |
    | lora | for Linear and ungrouped convolutions W: A and B of W + B·A (Hu et al. 2021), with B = 0 at first |
    """
    if scope.kind == "last_block":
        kept = {id(p) for layer in module.last_block() for p in layer.parameters() if p.requires_grad}
        for parameter in module.parameters():
            parameter.requires_grad_(id(parameter) in kept)
    elif scope.kind == "film":
        module.requires_grad_(False)
        _train_norms(module)
    elif scope.kind == "lora":
        module.requires_grad_(False)
        _add_low_rank(module, scope.rank)


class LoraLinear(nn.Linear):
    """W x + bias + B (A x), with W and bias as they were under their old names."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None)
        self.lora_a = nn.Linear(layer.in_features, rank, bias=False)
        self.lora_b = nn.Linear(rank, layer.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out]."""
        change: Tensor = self.lora_b(self.lora_a(x))
        return super().forward(x) + change


class LoraConv2d(nn.Conv2d):
    """W * x + bias + B * (A * x): A has W's window and `rank` channels, B mixes them place by place."""

    def __init__(self, layer: nn.Conv2d, rank: int) -> None:
        window = (layer.kernel_size, layer.stride, layer.padding)
        has_bias = layer.bias is not None
        super().__init__(layer.in_channels, layer.out_channels, *window, bias=has_bias)  # type: ignore[arg-type]
        self.lora_a = nn.Conv2d(layer.in_channels, rank, *window, bias=False)  # type: ignore[arg-type]
        self.lora_b = nn.Conv2d(rank, layer.out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, C', H', W']."""
        change: Tensor = self.lora_b(self.lora_a(x))
        return super().forward(x) + change


def _train_norms(module: nn.Module) -> None:
    for name, layer in list(module.named_modules()):
        if isinstance(layer, nn.GroupNorm) and not layer.affine:
            module.set_submodule(name, nn.GroupNorm(layer.num_groups, layer.num_channels, layer.eps))
        elif isinstance(layer, nn.LayerNorm) and not layer.elementwise_affine:
            module.set_submodule(name, nn.LayerNorm(layer.normalized_shape, layer.eps))
    for layer in module.modules():
        if isinstance(layer, (nn.GroupNorm, nn.LayerNorm, ChannelAffine)):
            layer.requires_grad_(True)


def _add_low_rank(module: nn.Module, rank: int) -> None:
    for name, layer in list(module.named_modules()):
        if isinstance(layer, StandardisedConv2d):
            raise InvalidConfig(
                "Expected scope 'lora' without weight_standardisation: a standardised weight plus a low-rank "
                "change is no standardised weight. Nothing was built. Choose another scope."
            )
        if not _gains(layer, rank):
            continue
        adapted = LoraLinear(layer, rank) if isinstance(layer, nn.Linear) else LoraConv2d(layer, rank)
        adapted.requires_grad_(False)
        adapted.lora_a.requires_grad_(True)
        adapted.lora_b.requires_grad_(True)
        module.set_submodule(name, adapted)
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise InvalidConfig(
            f"Expected a lora_rank that makes at least one weight smaller, found {rank}. Nothing was built. "
            "Lower it."
        )


def _gains(layer: nn.Module, rank: int) -> bool:
    """Whether A and B together have fewer coordinates than the weight that they change."""
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return False
    if not isinstance(layer, (nn.Linear, nn.Conv2d)):
        return False
    out, fan_in = layer.weight.shape[0], layer.weight[0].numel()
    return rank * (out + fan_in) < out * fan_in
