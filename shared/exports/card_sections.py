"""What measured.json says, as sections of a model card."""

from __future__ import annotations

from collections.abc import Mapping

from shared.exports.measured import Int8, Measured


def card_sections(measured: Measured) -> Mapping[str, str]:
    """Heading → Markdown, for `write_card`."""
    return {
        "For other programs": _formats(measured),
        "Size and speed": _size_and_speed(measured),
        "Energy": _energy(measured),
    }


def _formats(measured: Measured) -> str:
    parity, public = measured.parity, measured.public
    int8 = _int8(measured.int8) if measured.int8 else f"There is no int8 file: {measured.int8_missing}."
    return (
        f"`model.onnx` is opset {measured.opset}, fp32, for any batch size. No number of an embedding is further than "
        f"{parity.largest_difference:.1e} from what torch gives on {parity.records} public records (bound "
        f"{parity.bound:g}). "
        f"{int8} Measured on `{public.set_name}` ({public.held_out} held-out records of {public.labels} labels) with "
        f"{_versions(measured)}."
    )


def _int8(int8: Int8) -> str:
    loss = int8.loss
    where = "within" if not loss.undecided else "too few records to tell on which side of"
    within = f"{'over' if loss.over_the_bar else where} the bar of {loss.bar_points:g}"
    return (
        f"The embeddings of `model-int8.onnx` ({int8.method}) have a cosine of {loss.cosine_mean:.4f} to those of "
        f"`model.onnx` (least {loss.cosine_least:.3f}). A linear probe is right about {100 * loss.top1_fp32:.1f} % of "
        f"labels with fp32 and {100 * loss.top1_int8:.1f} % with int8: {loss.loss_points:.2f} points lost (95 % "
        f"interval {loss.loss_low:.2f} to {loss.loss_high:.2f}), {within}."
    )


def _versions(measured: Measured) -> str:
    return ", ".join(f"{name} {version}" for name, version in measured.versions.items())


def _size_and_speed(measured: Measured) -> str:
    sizes = [f"| `{name}` | {size:,} |" for name, size in measured.sizes_bytes.items()]
    speeds = [f"| {one.program} | {one.batch} | {one.records_per_s:,.0f} |" for one in measured.speed]
    threads = "one thread" if measured.threads == 1 else f"{measured.threads} threads"
    return "\n".join(
        [
            "| file | bytes |",
            "|---|---|",
            *sizes,
            "",
            f"Records a second on {threads} of {measured.processor}, in one short run: compare them with each other.",
            "",
            "| program | batch | records a second |",
            "|---|---|---|",
            *speeds,
        ]
    )


def _energy(measured: Measured) -> str:
    energy = measured.energy
    return (
        f"Embedding a thousand records with ONNX fp32 took {energy.joules_a_thousand:.2g} J, which stand for "
        f"{energy.co2_g_a_thousand:.2g} g of CO₂ at {energy.grams_per_kwh:.0f} g a kilowatt-hour. "
        f"Joules: {energy.method}. CO₂: {energy.co2_method}."
    )
