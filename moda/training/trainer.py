"""One trainer for every network: it knows a Task (batches, a module that gives losses) and nothing of faces.

Through accelerate the same command runs on a CPU, a GPU, several GPUs and several machines
(`accelerate launch -m moda train CONFIG`). What a step draws depends on the seed, the step and the place in the batch
alone, so a resumed run is the same run, and two processes see the batch that one would.
"""

from __future__ import annotations

import gc
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from moda.errors import ModaError, why
from moda.media.files import whole
from moda.training.adan import Adan

log = logging.getLogger(__name__)


class TrainerConfig(BaseModel):
    """How a network is trained; what and on what is said by the task's own config."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    steps: PositiveInt = Field(description="optimizer steps")
    batch: PositiveInt = Field(description="examples a step, over all processes")
    learning_rate: PositiveFloat = Field(
        description="after the warmup it falls along a cosine to a twentieth"
    )
    optimizer: Literal["adamw", "adan"] = Field("adamw", description="adan: as AToM was trained with it")
    warmup: NonNegativeInt = Field(200, description="steps until the learning rate is full")
    ema: float = Field(
        0.998, ge=0, lt=1, description="decay of the running mean of the weights, which is what is kept"
    )
    seed: NonNegativeInt = Field(0, lt=2**63, description="of everything random")
    threads: PositiveInt = Field(1, le=512, description="CPU threads of each process")
    precision: Literal["no", "bf16", "fp16"] = Field("no", description="mixed precision")
    save_every: PositiveInt = Field(250, description="steps between checkpoints")
    validate_every: PositiveInt = Field(
        1000, description="steps between validations; one comes before the first step"
    )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it a network's first weights are those of the seed, so that a run from its start is the same run again."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


class Task(Protocol):
    """What is trained. The module's forward takes a batch and gives the parts of the loss as scalars."""

    @property
    def module(self) -> nn.Module: ...

    @property
    def weights(self) -> Mapping[str, float]: ...

    def example(self, random: np.random.Generator) -> Any: ...

    def collate(self, examples: list[Any], random: torch.Generator) -> Any: ...

    def validate(self, module: nn.Module) -> dict[str, float]: ...

    def export(self, module: nn.Module, folder: Path) -> Path: ...


class Trainer:
    """One run in the folder `out`: checkpoint.pt, loss.jsonl (a line each 50 steps and for each validation), model/."""

    def __init__(
        self,
        task: Task,
        config: TrainerConfig,
        out: Path,
        progress: Callable[[float], None] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        """settings: the whole run's, kept in the checkpoint; `before`: those of the checkpoint that is gone on from.

        Errors: ModaError without accelerate, or for a checkpoint of another network."""
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise ModaError('training needs accelerate: pip install "moda-talkinghead[train]"') from error
        torch.set_num_threads(config.threads)
        self.task, self.config, self.out = task, config, out
        self.settings, self.before = settings or {}, {}
        self.progress = progress or (lambda part: None)
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModaError(f"the run cannot be written to {out}: {why(error)}") from error
        cpu = not torch.cuda.is_available()
        self.accelerator = Accelerator(mixed_precision=config.precision, cpu=cpu)
        parameters = task.module.parameters()
        optimizer: torch.optim.Optimizer
        if config.optimizer == "adan":
            optimizer = Adan(parameters, lr=config.learning_rate)
        else:
            optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, betas=(0.9, 0.98))
        self.mean = deepcopy(task.module).requires_grad_(False).to(self.accelerator.device)
        self.step = 0
        state = self._checkpoint()
        if state:
            task.module.load_state_dict(state["module"])
        self.module, self.optimizer = self.accelerator.prepare(task.module, optimizer)
        if state:
            self.mean.load_state_dict(state["mean"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.before = state["step"], json.loads(state["settings"])

    def run(self) -> Path:
        """Train to the end -> the folder of the finished model."""
        # Gates start closed, and what trickles through them is slow to multiply. It is the whole process's setting, and
        # others need the smallest numbers.
        torch.set_flush_denormal(True)
        try:
            return self._run()
        finally:
            torch.set_flush_denormal(False)

    def _run(self) -> Path:
        config = self.config
        self._forget()
        if self.step == 0:
            self._validate()
        sums: dict[str, float] = {}
        began, counted = time.monotonic(), 0
        while self.step < config.steps:
            for name, value in self.advance().items():
                sums[name] = sums.get(name, 0.0) + value
            counted += 1
            self.progress(self.step / config.steps)
            last = self.step == config.steps
            if self.step % 50 == 0 or last:
                self._log(
                    {k: v / counted for k, v in sums.items()}
                    | {"seconds": (time.monotonic() - began) / counted}
                )
                sums, began, counted = {}, time.monotonic(), 0
            if self.step % config.save_every == 0 or last:
                self.save()
            if self.step % config.validate_every == 0 or last:
                self._validate()
                began, counted, sums = time.monotonic(), 0, {}
        if self.accelerator.is_main_process:
            self.task.export(self.mean, self.out / "model")
        self.close()
        return self.out / "model"

    def close(self) -> None:
        """Let the processes part; nothing can be trained afterwards."""
        self.accelerator.wait_for_everyone()
        self.module = self.accelerator.unwrap_model(self.module)
        del self.optimizer
        self.accelerator.free_memory()
        gc.collect()  # the wrapped module's threads have to end before their group does
        self.accelerator.end_training()

    def advance(self) -> dict[str, float]:
        """One optimizer step -> the parts of its loss, averaged over processes."""
        config, accelerator = self.config, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * self._rate()
        mine = range(accelerator.process_index, config.batch, accelerator.num_processes)
        examples = [self.task.example(np.random.default_rng((config.seed, self.step, i))) for i in mine]
        seed = np.random.default_rng((config.seed, self.step, config.batch + accelerator.process_index))
        batch = self.task.collate(examples, torch.Generator().manual_seed(int(seed.integers(2**62))))
        parts: dict[str, Tensor] = self.module(_to(batch, accelerator.device))
        total = torch.stack([self.task.weights[name] * value for name, value in parts.items()]).sum()
        if not torch.isfinite(total):
            raise ModaError(f"the loss is {float(total)} at step {self.step}: lower the learning rate")
        self.optimizer.zero_grad(set_to_none=True)
        accelerator.backward(total)
        accelerator.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            now = accelerator.unwrap_model(self.module).parameters()
            for mean, value in zip(self.mean.parameters(), now):
                mean.lerp_(value, 1 - decay)
        self.step += 1
        return {k: float(accelerator.reduce(v.detach().float(), "mean")) for k, v in parts.items()}

    def _rate(self) -> float:
        warmup, steps = self.config.warmup, self.config.steps
        if self.step < warmup:
            return (self.step + 1) / warmup
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (self.step - warmup) / max(1, steps - warmup)))

    def _validate(self) -> None:
        if self.accelerator.is_main_process:
            with torch.no_grad():
                found = self.task.validate(self.mean)
            if found:  # nobody held out: nothing to say
                self._log({f"valid_{k}": v for k, v in found.items()})
        self.accelerator.wait_for_everyone()

    def _log(self, values: dict[str, float]) -> None:
        if self.accelerator.is_main_process:
            told = {k: float(f"{v:.5g}") for k, v in values.items() if math.isfinite(v)}  # JSON has no NaN
            line = {"step": self.step} | told
            log.info("%s", "  ".join(f"{k} {v}" for k, v in line.items()))
            with open(self.losses, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def _forget(self) -> None:
        """What a run that was cut off told of steps after its checkpoint is told anew."""
        if self.accelerator.is_main_process and self.losses.exists():
            with whole(self.losses) as part, open(part, "w", encoding="utf-8") as kept:
                for line in self.losses.read_text(encoding="utf-8").splitlines():
                    with suppress(ValueError):  # half a line
                        if self.step and json.loads(line)["step"] <= self.step:
                            kept.write(line + "\n")

    # -- files ------------------------------------------------------------------------------------------------

    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoint.pt"

    @property
    def losses(self) -> Path:
        return self.out / "loss.jsonl"

    def save(self) -> None:
        if self.accelerator.is_main_process:
            state = {
                "step": self.step,
                "module": self.accelerator.unwrap_model(self.module).state_dict(),
                "mean": self.mean.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "settings": json.dumps(self.settings),
            }
            with whole(self.checkpoint) as part:
                torch.save(state, part)
        self.accelerator.wait_for_everyone()

    def _checkpoint(self) -> dict[str, Any] | None:
        if not self.checkpoint.exists():
            return None
        try:
            state = torch.load(self.checkpoint, weights_only=True, map_location="cpu")
            state.setdefault("settings", "{}")  # checkpoints from before they were kept
            complete = set(state) == {"step", "module", "mean", "optimizer", "settings"}
        except Exception as error:  # a damaged file raises whatever its parts do
            raise ModaError(f"{self.checkpoint} cannot be read; remove it to begin anew") from error
        if not complete:
            raise ModaError(f"{self.checkpoint} is no checkpoint of a run; remove it to begin anew")
        wanted = {k: v.shape for k, v in self.task.module.state_dict().items()}
        if wanted != {k: v.shape for k, v in state["module"].items()}:
            raise ModaError(
                f"{self.checkpoint} belongs to another network; name another `out` folder, or remove it"
            )
        before = json.loads(state["settings"]).get("training", {}).get("optimizer", self.config.optimizer)
        if before != self.config.optimizer:
            raise ModaError(
                f"training.optimizer is {self.config.optimizer}, but {self.checkpoint} is of {before}; name another `out` folder"
            )
        return state


def _to(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, dict):
        return {k: _to(v, device) for k, v in batch.items()}
    return batch
