"""The flow's schedule, pairs and solver, on velocities whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moda.generator import flow


def test_the_published_schedule_and_the_even_one():
    assert flow.schedule(10) == [1000, 889, 778, 667, 556, 445, 334, 223, 112, 1]
    assert flow.schedule(4, even=True) == [1000, 750, 500, 250]
    assert flow.schedule(1) == flow.schedule(1, even=True) == [1000]


@pytest.mark.parametrize("steps", [1, 3, 9])
def test_an_even_step_less_ends_where_the_published_schedule_does(steps):
    noise = torch.linspace(-2, 2, 9, dtype=torch.float64)
    ends = []
    for times in (flow.schedule(steps, even=True), flow.schedule(steps + 1)):
        *_, end = flow.euler(lambda x, i: torch.sin(3 * x) * times[i] / 1000, noise, times)  # noqa: B023
        ends.append(end)
    assert (ends[0] - ends[1]).abs().max() < 0.004


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50])
def test_a_straight_flow_ends_at_its_data(steps, even):
    noise, data = torch.randn(2, 4, 5, dtype=torch.float64), torch.randn(2, 4, 5, dtype=torch.float64)
    xs = list(flow.euler(lambda x, i: noise - data, noise, flow.schedule(steps, even)))
    assert len(xs) == steps
    torch.testing.assert_close(xs[-1], data, atol=1e-6, rtol=0)


def test_more_steps_come_nearer_to_a_curved_flow():
    # the exact velocity of the flow from unit noise to N(0, s^2): every x ends at s x
    s, noise = 0.3, torch.linspace(-2, 2, 9, dtype=torch.float64)
    times = {n: flow.schedule(n) for n in (5, 20, 80)}

    def velocity(n):
        def v(x, i):
            sigma = times[n][i] / 1000
            return x * (sigma - (1 - sigma) * s * s) / (sigma**2 + (1 - sigma) ** 2 * s * s)

        return v

    errors = [
        (list(flow.euler(velocity(n), noise, times[n]))[-1] - s * noise).abs().max().item()
        for n in (5, 20, 80)
    ]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.02


def test_a_training_pair_lies_on_the_straight_line():
    random = torch.Generator().manual_seed(0)
    x_0 = torch.randn(500, 3, 2)
    pair = flow.training_pair(x_0, random)
    noise = pair.target + x_0
    sigma = (pair.time / 1000).view(-1, 1, 1)
    torch.testing.assert_close(pair.x_t, sigma * noise + (1 - sigma) * x_0)
    torch.testing.assert_close(pair.x_0(pair.target), x_0, atol=1e-5, rtol=0)
    assert abs(noise.mean()) < 0.05 and abs(noise.std() - 1) < 0.05
    # sigma is uniform in [0.001, 1]
    counts = np.histogram(sigma.flatten(), bins=5, range=(0, 1))[0]
    assert counts.min() > 60 and pair.time.min() >= 1 and pair.time.max() <= 1000


def test_guidance_goes_past_the_conditional_velocity():
    both = torch.tensor([[[1.0]], [[3.0]]])  # unconditional first
    assert flow.guided(lambda x, i: both, 1.2)(None, 0).item() == pytest.approx(3.4)
    assert flow.guided(lambda x, i: both, 0.0)(None, 0).item() == 1.0
