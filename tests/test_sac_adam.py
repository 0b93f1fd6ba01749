"""Adam as torch's optimizer computes it, without what that loads."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from offbeat.sac.adam import Adam


def test_steps_equal_those_of_torch_s_optimizer_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(1000, generator=generator)
    ours, theirs = start.clone(), start.clone().requires_grad_()
    adam = Adam(ours, 1e-3, (0.8, 0.99))
    reference = torch.optim.Adam([theirs], lr=1e-3, betas=(0.8, 0.99), fused=True)
    for _ in range(20):
        gradient = torch.randn(1000, generator=generator)
        adam.step(gradient)
        theirs.grad = gradient.clone()
        reference.step()
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, start)


def test_goes_on_where_it_was_saved() -> None:
    generator = torch.Generator().manual_seed(1)
    one = torch.randn(50, generator=generator)
    first = Adam(one, 1e-2, (0.9, 0.999))
    first.step(torch.randn(50, generator=generator))
    other, state = one.clone(), first.state_dict()
    second = Adam(other, 1e-2, (0.9, 0.999))
    second.load_state_dict(state)
    gradient = torch.randn(50, generator=generator)
    first.step(gradient)
    second.step(gradient)
    assert torch.equal(one, other)
    assert not torch.equal(state["mean"], first.state_dict()["mean"])  # a copy


@pytest.mark.parametrize("lost", ["mean", "square", "steps"])
def test_an_incomplete_state_is_refused(lost: str) -> None:
    adam = Adam(torch.zeros(3), 1e-3, (0.9, 0.999))
    state = adam.state_dict()
    del state[lost]
    with pytest.raises(KeyError, match=lost):
        adam.load_state_dict(state)


def test_a_run_that_learns_leaves_the_compiler_alone() -> None:
    """It takes seconds to load, in every process that learns."""
    code = """
import sys, tempfile
from pathlib import Path
from offbeat.run import train
from test_run import tiny
with tempfile.TemporaryDirectory() as directory:
    summary = train(tiny(), Path(directory) / "run")
print(summary["updates"] > 0, "torch._dynamo" in sys.modules)
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=Path(__file__).parent
    )
    assert answer.stdout.split()[-2:] == ["True", "False"], answer.stdout + answer.stderr
