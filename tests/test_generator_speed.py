"""Operations are counted right, faster arithmetic stays near, the bench's rows are consistent."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from published import shapes
from rule import randn, state_dict
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from moda.generator import cost
from moda.generator.bench import bench, random_model
from moda.generator.config import PUBLISHED
from moda.generator.model import MotionTransformer
from moda.generator.products import pack, quantize
from moda.generator.sampler import Sampler
from moda.weights.names import published_generator

SMALL = replace(
    PUBLISHED, width=64, heads=4, depths=(2, 2, 3), audio_layers=3, audio_width=16, audio_hidden=32, steps=3
)


def by_rule() -> MotionTransformer:
    model = MotionTransformer(SMALL)
    model.load_state_dict(
        published_generator({k: torch.from_numpy(v) for k, v in state_dict(shapes(SMALL)).items()})
    )
    return model.eval().requires_grad_(False)


def counted(call) -> float:
    # the plain attention is made of products that the counter knows
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9


def solve(sampler: Sampler) -> torch.Tensor:
    noise = torch.from_numpy(randn(3, (80, 70)))
    *_, out = sampler.solve(randn(1, (80, 3, 16)), randn(2, (70,)), noise)
    return out


@pytest.mark.parametrize("guidance", [1.0, 1.2])
@pytest.mark.parametrize("depths", [(2, 2, 3), (1, 0, 0), (0, 0, 1)])
def test_counting_agrees_with_watching(guidance, depths):
    model = random_model(replace(SMALL, depths=depths))
    mine = cost.ours(model.config, 3, guided=guidance > 1)
    made = []
    clip = counted(lambda: made.append(Sampler(model, randn(4, (63,)), 2, 0, 3, guidance)))
    assert mine.clip == pytest.approx(clip, rel=1e-3)
    assert mine.segment + 3 * mine.step == pytest.approx(counted(lambda: solve(made[0])), rel=1e-3)


def test_the_published_cost_and_what_is_saved():
    theirs, mine = cost.published(PUBLISHED), cost.ours(PUBLISHED, 10)
    assert theirs.step == pytest.approx(206.8, abs=0.05)  # measured on the published code
    assert cost.published(PUBLISHED, guided=False).step == pytest.approx(103.4, abs=0.05)
    assert theirs.step - mine.step == pytest.approx(sum(cost.savings(PUBLISHED).values()), abs=0.05)
    assert theirs.total(10) / mine.total(10) > 1.12


def test_int8_stays_near():
    plain, fast = (Sampler(m, randn(4, (63,)), 2, 0, 3, 1.2) for m in (by_rule(), quantize(by_rule())))
    a, b = solve(plain), solve(fast)
    assert 0 < (a - b).std() < 0.1 * a.std()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near(dtype):
    a = solve(Sampler(by_rule(), randn(4, (63,)), 2, 0, 3, 1.2))
    b = solve(Sampler(by_rule().to(dtype), randn(4, (63,)), 2, 0, 3, 1.2))
    assert b.dtype == torch.float32
    assert 0 < (a - b).std() < (0.05 if dtype == torch.bfloat16 else 0.01) * a.std()


def test_packed_products_are_the_same():
    a, b = (solve(Sampler(m, randn(4, (63,)), 2, 0, 3, 1.2)) for m in (by_rule(), pack(by_rule())))
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_bench_rows_are_consistent():
    rows = bench(random_model(SMALL), runs=1)
    assert [r.name for r in rows] == ["conditions, once a clip", "a guided step", "a segment of 80 frames"]
    for row in rows:
        assert row.seconds > 0 and row.memory > 0 and row.speed == pytest.approx(row.gflop / row.seconds)
        assert row.gflop <= row.published
    step, segment = rows[1:]
    assert segment.seconds >= 3 * step.seconds and segment.gflop == pytest.approx(3 * step.gflop, rel=0.01)
