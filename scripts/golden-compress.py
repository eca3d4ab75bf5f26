#!/usr/bin/env python3
"""Write what pruning and quantizing should give, by the references' formulas, to fixtures/compress.

    pip install numpy
    scripts/golden-compress.py           (then also checks itself against gguf and bitsandbytes,
                                          where they are installed)

Formulas: Wanda (arXiv 2306.11695), RIA (2402.02834), AWQ (2306.00978) with AutoAWQ's duo scales, LLM.int8()
(2208.07339). src/compress compares its own results with these, for equality. Seeded; the same bytes each time.
"""
import json, pathlib, struct

import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "compress"
GROUP = 128
NAMES = {"float16": "F16", "float32": "F32", "float64": "F64", "int64": "I64", "int8": "I8", "uint8": "U8"}


def save(name, tensors):
    """A safetensors file: length of the header, the header, the data."""
    header, data = {}, b""
    for key, array in tensors.items():
        array = np.ascontiguousarray(array)
        place = [len(data), len(data) + array.nbytes]
        header[key] = {"dtype": NAMES[array.dtype.name], "shape": array.shape, "data_offsets": place}
        data += array.astype(array.dtype.newbyteorder("<")).tobytes()
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path = FOLDER / f"{name}.safetensors"
    path.write_bytes(struct.pack("<Q", len(head)) + head + data)
    print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size} bytes")


# Masks: 1 where a weight stays.


def lowest(scores, k):
    """The k lowest of each row go; the first of equals."""
    kept = np.ones(scores.shape, np.uint8)
    np.put_along_axis(kept, np.argsort(scores, axis=1, kind="stable")[:, :k], 0, axis=1)
    return kept


def n_of_m(scores, n, m):
    runs = scores.reshape(-1, m)
    return lowest(runs, n).reshape(scores.shape)


def masks(rng):
    n_out, n_in, n_tokens = 24, 192, 300
    weight = (rng.standard_normal((n_out, n_in)) * 0.05).astype(np.float16)
    # Ties: coarse rows, a row of equals, zeros, and channels with one norm.
    weight[:6] = np.round(weight[:6].astype(np.float32) * 40) / 40
    weight[6] = 0.25
    weight[7, ::3] = 0
    in_sum2 = (n_tokens * rng.lognormal(0, 1.5, n_in)).astype(np.float32)
    in_sum2[:96] = np.float32(n_tokens)
    in_sum2[5] = 0
    out = {"weight": weight, "in_sum2": in_sum2, "n_tokens": np.array([n_tokens])}
    w = np.abs(weight.astype(np.float32))
    norms = np.sqrt((in_sum2.astype(np.float64) / n_tokens).astype(np.float32))
    w64 = w.astype(np.float64)
    with np.errstate(invalid="ignore"):
        relative = w64 / w64.sum(0, keepdims=True) + w64 / w64.sum(1, keepdims=True)
    ria = np.where(w64 == 0, 0, relative) * norms.astype(np.float64) ** 0.5
    scores = {"wanda": w * norms, "magnitude": w, "ria": ria.astype(np.float32)}
    for name, s in scores.items():
        assert s.dtype == np.float32
        out |= {
            f"{name}.r50": lowest(s, int(n_in * 0.5)),
            f"{name}.r37": lowest(s, int(n_in * 0.37)),
            f"{name}.2of4": n_of_m(s, 2, 4),
            f"{name}.5of8": n_of_m(s, 5, 8),
            f"{name}.3of16": n_of_m(s, 3, 16),
        }
    for name, ratio in [("r40", 0.4), ("r50", 0.5), ("r37", 0.37)]:
        threshold = np.sort(w.ravel())[int(w.size * ratio)]
        out[f"whole.{name}.threshold"] = np.array([threshold])
        out[f"whole.{name}"] = (w > threshold).astype(np.uint8)
    save("masks", out)


# AWQ.


def grid(groups, symmetric):
    """Scale and zero of each group; f32, as everything here."""
    if symmetric:
        scale = np.maximum(np.abs(groups).max(1), np.float32(1e-5)) / np.float32(7)
        return scale, np.full(len(groups), 8, np.float32)
    most, least = groups.max(1), groups.min(1)
    scale = np.maximum(most - least, np.float32(1e-5)) / np.float32(15)
    return scale, np.clip(-np.rint(least / scale), 0, 15)


def integers(weight, symmetric):
    groups = weight.reshape(-1, GROUP)
    scale, zero = grid(groups, symmetric)
    ints = np.clip(np.rint(groups / scale[:, None]) + zero[:, None], 0, 15)
    return ints, scale, zero


def rounded(weight, symmetric):
    ints, scale, zero = integers(weight, symmetric)
    return ((ints - zero[:, None]) * scale[:, None]).reshape(weight.shape)


def blocks(weight, symmetric):
    """Q4_0 or Q4_1 with the group's scale in each of its four blocks."""
    ints, scale, zero = integers(weight, symmetric)
    nibbles = ints.astype(np.uint8).reshape(-1, 4, 2, 16)
    heads = [scale] if symmetric else [scale, 0 - zero * scale]
    heads = np.stack(heads, 1).astype("<f2").view(np.uint8)
    heads = np.repeat(heads[:, None], 4, 1)
    return np.concatenate([heads, nibbles[:, :, 0] | nibbles[:, :, 1] << 4], 2).ravel()


def clipped(weight, mean_sq, symmetric):
    groups = weight.reshape(-1, GROUP)
    x2 = np.tile(mean_sq.astype(np.float64).reshape(-1, GROUP), (len(weight), 1))
    most = np.abs(groups).max(1)
    best, limits = np.full(len(groups), np.inf), most.copy()
    for i in range(10):
        limit = most * (np.float32(1) - np.float32(i) / np.float32(20))
        cut = np.clip(groups, -limit[:, None], limit[:, None])
        error = rounded(cut, symmetric).astype(np.float64) - groups
        loss = (x2 * error**2).sum(1)
        limits = np.where(loss < best, limit, limits)
        best = np.minimum(loss, best)
    return np.clip(groups, -limits[:, None], limits[:, None]).reshape(weight.shape)


def q8_0(weight):
    """ggml's Q8_0: integers from d in f32, d stored in f16."""
    b = weight.reshape(-1, 32)
    d = np.abs(b).max(1) / np.float32(127)
    with np.errstate(divide="ignore"):
        inverse = np.where(d == 0, np.float32(0), np.float32(1) / d)
    scaled = b * inverse[:, None]
    # roundf: halves away from zero.
    ints = np.trunc(scaled + np.copysign(np.float32(0.5), scaled))
    return (ints * d.astype(np.float16).astype(np.float32)[:, None]).reshape(weight.shape)


def normalised(s):
    s = np.maximum(s, 1e-4)
    return (s / np.sqrt(s.max() * s.min())).astype(np.float32)


def weight_means(weights, group):
    w = np.abs(np.concatenate(weights)).reshape(-1, group)
    relative = w.astype(np.float64) / (w.max(1, keepdims=True).astype(np.float64) + 1e-6)
    return relative.reshape(-1, weights[0].shape[1]).mean(0).astype(np.float32)


def search(weights, mean_abs, mean_sq, rounding, group, duo):
    m, w = mean_abs.astype(np.float64), weight_means(weights, group).astype(np.float64)
    grid = [(0, step, normalised(m ** (step / 20))) for step in range(20)]
    if duo:
        both = lambda a: m**a / (w ** (1 - a) + 1e-4)
        grid += [(1, step, normalised(both(step / 20))) for step in range(20)]
    losses = []
    for _, _, s in grid:
        loss = 0.0
        for weight in weights:
            error = rounding(weight * s).astype(np.float64) / s.astype(np.float64) - weight
            loss += (mean_sq.astype(np.float64) * error**2).sum()
        losses.append(loss)
    best = int(np.argmin(losses))
    margin = np.sort(losses)[1] / losses[best] - 1
    assert margin > 1e-4, f"two points of the grid are as good as each other: {margin}"
    kind, step, scales = grid[best]
    print(f"  {'duo' if kind else 'plain'} {step}/20, loss {losses[best] / losses[0]:.3f}, margin {margin:.1e}")
    return {
        "chosen": np.array([kind, step]),
        "losses": np.array([losses[0], losses[best]]),
        "scales": scales,
    }


def awq(rng):
    n_in = 256
    weights = [rng.standard_t(4, (n, n_in)).astype(np.float32) * np.float32(0.03) for n in (16, 8)]
    weights[0][0, :GROUP] = 0  # a group of zeros
    weights[0][1, :GROUP] = np.abs(weights[0][1, :GROUP])  # its zero point is at the end
    mean_abs = rng.lognormal(0, 0.8, n_in)
    mean_abs[rng.choice(n_in, 6, replace=False)] *= 20
    mean_sq = (mean_abs**2 * rng.uniform(1.3, 2.0, n_in)).astype(np.float32)
    mean_abs = mean_abs.astype(np.float32)
    out = {"weight.0": weights[0], "weight.1": weights[1], "mean_abs": mean_abs, "mean_sq": mean_sq}
    for name, symmetric in [("asymmetric", False), ("symmetric", True)]:
        ints, scale, zero = integers(weights[0], symmetric)
        assert scale.dtype == np.float32
        out |= {
            f"{name}.ints": ints.astype(np.uint8),
            f"{name}.scale": scale,
            f"{name}.zero": zero.astype(np.uint8),
            f"{name}.rounded": rounded(weights[0], symmetric),
            f"{name}.bytes": blocks(weights[0], symmetric),
            f"{name}.clipped": clipped(weights[0], mean_sq, symmetric),
        }
    roundings = {
        "asymmetric": (lambda w: rounded(w, False), GROUP),
        "symmetric": (lambda w: rounded(w, True), GROUP),
        "q8_0": (q8_0, 32),
    }
    for name, (rounding, group) in roundings.items():
        for kind in ("plain", "duo"):
            found = search(weights, mean_abs, mean_sq, rounding, group, kind == "duo")
            out |= {f"search.{name}.{kind}.{key}": value for key, value in found.items()}
    save("awq", out)


# LLM.int8().


def int8(rng):
    weight = (rng.standard_normal((12, 128)) * 0.04).astype(np.float16)
    weight[3] = 0
    weight[4, 17] = 3.5  # one large weight costs its whole row
    weight[5] = np.linspace(-127, 127, 128).astype(np.float16) / 64  # near halves
    w = weight.astype(np.float32)
    scb = np.abs(w).max(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = (np.float32(1) / scb) * np.float32(127)
        ints = np.nan_to_num(np.rint(w * factor[:, None])).astype(np.int8)
    d = (scb / np.float32(127)).astype("<f2").view(np.uint8).reshape(-1, 1, 2)
    d = np.repeat(d, weight.shape[1] // 32, 1)
    q8 = np.concatenate([d, ints.view(np.uint8).reshape(len(weight), -1, 32)], 2).ravel()
    save("int8", {"weight": weight, "ints": ints, "scb": scb, "q8_0": q8})
    try:
        import bitsandbytes, torch
    except ImportError:
        return print("  bitsandbytes is not installed: not compared")
    theirs, their_scb, _ = bitsandbytes.functional.int8_vectorwise_quant(torch.from_numpy(weight))
    assert (theirs.numpy() == ints).all() and (their_scb.numpy() == scb).all()
    print("  bitsandbytes has the same integers and scales")


def check_q8_0(rng):
    try:
        from gguf import GGMLQuantizationType, quants
    except ImportError:
        return print("gguf is not installed: Q8_0 not compared")
    weight = rng.standard_normal((64, 256)).astype(np.float32)
    ty = GGMLQuantizationType.Q8_0
    assert (quants.dequantize(quants.quantize(weight, ty), ty) == q8_0(weight)).all()
    print("gguf has the same Q8_0")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for seed, make in enumerate((masks, awq, int8, check_q8_0)):
        make(np.random.Generator(np.random.PCG64(seed)))
