"""A live session on a clock: sound comes in whenever it does, a frame leaves every 40 ms.

One thread keeps the clock; everyone else leaves wishes (sound, an interrupt, settings) under a lock. Frames are made by a
second one, a few ahead, and delivered when they are due, picture and sound together, so the two cannot drift. Between utterances the face idles. When the machine is late, pictures are drawn less often; sound never is cut.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from moda.constants import FPS
from moda.engine.session import Frame, Session
from moda.errors import ModaError
from moda.motion.timeline import Timeline

if TYPE_CHECKING:
    from moda.serve.hosts import HostedSession

AHEAD = 4  # frames made before they are due
HOP = 4  # frames of sound pushed at once
START = 0.46  # seconds of sound with which an utterance begins: what the encoder waits for, so that it does not stop
GRACE = 0.25  # seconds without sound after which an utterance that nobody ended is taken as ended
CALM = 2.0  # seconds without a late frame after which all pictures are drawn again
LATE = 0.12  # seconds behind the clock from which pictures are thinned out
LOST = (
    3.0  # seconds behind the clock up to which frames are made good in haste; beyond, the clock is set anew
)
MAX_WAITING = 300.0  # seconds of sound that may wait


Making = Callable[[], list[Frame]]


class Clock(Protocol):
    def now(self) -> float: ...
    def wait(self, condition: threading.Condition, seconds: float) -> None: ...

    def begin(self, make: Making, done: Callable[[], None]) -> Future[list[Frame]]:
        """make() beside everything else; done() once it is."""
        ...

    def close(self) -> None: ...


class RealClock:
    def __init__(self) -> None:
        self._maker = ThreadPoolExecutor(1, "moda-make")

    def now(self) -> float:
        return time.monotonic()

    def wait(self, condition: threading.Condition, seconds: float) -> None:
        condition.wait(seconds)

    def begin(self, make: Making, done: Callable[[], None]) -> Future[list[Frame]]:
        future = self._maker.submit(make)
        future.add_done_callback(lambda _: done())
        return future

    def close(self) -> None:
        self._maker.shutdown()


@dataclass(frozen=True)
class Event:
    """What a listener is told beside frames. kind: started, done, interrupted, thinned, failed; data goes with it."""

    kind: str
    data: dict = field(default_factory=dict)


@dataclass
class Counts:
    """Of one session, for metrics."""

    frames: int = 0
    late: int = 0
    thinned: int = 0
    resets: int = 0
    interrupts: int = 0
    first_frame: float | None = (
        None  # seconds from an utterance's first sound to its first frame, the last one's
    )
    interrupt: float | None = None  # seconds from the wish to the end of the sound


class LiveSession:
    """deliver: called in the session's thread with each Frame when it is due, and with each Event."""

    def __init__(
        self,
        session: Session | HostedSession,
        deliver: Callable[[Frame | Event], None],
        clock: Clock | None = None,
    ) -> None:
        self.session, self.counts = session, Counts()
        self.rate = session.rate
        self._deliver, self._clock = deliver, clock or RealClock()
        self._wake = threading.Condition()
        self._sound: deque[np.ndarray | None] = deque()  # None: an utterance ends here
        self._samples = 0
        self._came: float | None = None  # when the first sound of the utterance came
        self._stop_at: float | None = None  # when an interrupt was wished for
        self._changes: dict = {}
        self._directions: list[Timeline] = []
        self._closing = self._finish = False
        self._made: deque[Frame] = deque()
        self._making: Future[list[Frame]] | None = None
        self._flushing = False  # what is being made is the end of an utterance
        self._after: Event | None = None  # to be told once the last frame made was shown
        self._speaking = False
        self._starved: float | None = None
        self._shown = -1  # index of the last frame delivered
        self._picture: np.ndarray | None = None  # its picture
        self._late_at: float | None = None  # when a frame was last late
        self.touched = self._clock.now()
        self._thread = threading.Thread(target=self._run, name="moda-live", daemon=True)

    def start(self) -> None:
        self._thread.start()

    # -- wishes, from any thread ---------------------------------------------------------------

    def append(self, sound: np.ndarray) -> None:
        """(n,) float32 mono at the session's rate. Errors: ModaError where more than MAX_WAITING would wait."""
        with self._wake:
            if (self._samples + len(sound)) / self.rate > MAX_WAITING:
                raise ModaError(
                    f"more than {MAX_WAITING:g} s of sound wait to be spoken; send it more slowly"
                )
            if not len(sound):
                return
            if self._came is None and not self._speaking:
                self._came = self._clock.now()
            self._sound.append(sound)
            self._samples += len(sound)
            self.touched = self._clock.now()
            self._wake.notify_all()

    def commit(self) -> None:
        """What was appended so far is a whole utterance."""
        with self._wake:
            self._sound.append(None)
            self._wake.notify_all()

    def interrupt(self) -> None:
        """Forget all sound, close the lips; an Event "interrupted" tells what was played."""
        with self._wake:
            self._sound.clear()
            self._samples = 0
            self._stop_at = self._clock.now()
            self.touched = self._clock.now()
            self._wake.notify_all()

    def change(self, **settings: object) -> None:
        """Settings as `Session.set` takes them. Errors: ModaError for a wrong one."""
        from moda.engine.performance import Settings, changed

        changed(Settings(), **settings)
        with self._wake:
            self._changes |= settings
            self.touched = self._clock.now()

    def direct(self, timeline: Timeline) -> None:
        """Events whose times count from the next frame that is made."""
        with self._wake:
            self._directions.append(timeline)
            self.touched = self._clock.now()

    def close(self, finish: bool = False, timeout: float = 8.0) -> None:
        """End the thread; finish: after what waits was spoken."""
        with self._wake:
            self._closing, self._finish = True, finish
            self._sound.append(None)
            self._wake.notify_all()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout)
        self.session.close()

    @property
    def waiting(self) -> float:
        """Seconds of sound that wait to be spoken."""
        return self._samples / self.rate

    # -- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop()
        except Exception as error:  # told to whoever listens; the thread has no one else to tell
            self._deliver(Event("failed", {"message": str(error) or type(error).__name__}))
        finally:
            self._clock.close()

    def _loop(self) -> None:
        zero = self._clock.now()  # when frame 0 was due
        waited = True  # for the first frames or for sound, since the last frame
        behind = 0.0
        while not self._over():
            self._wishes()
            if self._making and self._making.done():
                self._receive()
            if not self._making and len(self._made) < AHEAD and not self._after:
                self._make()
            now = self._clock.now()
            if self._starved is not None and not self._made:
                waited = True
            if waited and self._made:  # late for want of sound, which no haste makes good
                zero = max(zero, now - self._made[0].index / FPS)
                waited = False
            while self._made and zero + self._made[0].index / FPS <= now:
                frame = self._made.popleft()
                behind = now - (zero + frame.index / FPS)
                if behind > 1.5 / FPS:
                    self.counts.late += 1
                if behind > LOST:
                    zero += behind
                    self.counts.resets += 1
                self._show(frame, now)
            self._thin(behind, now)
            if self._after and not self._made:
                self._deliver(self._after)
                self._after = None
            due = zero + (self._made[0].index if self._made else self._shown + 1) / FPS
            with self._wake:
                busy = self._making is not None and not self._making.done()
                if self._stop_at is None and (
                    busy or len(self._made) >= AHEAD or self._after or self._hungry()
                ):
                    left = due - self._clock.now() if self._made else 0.04  # else what comes wakes it
                    self._clock.wait(self._wake, max(0.001, min(left, 0.04)))

    def _over(self) -> bool:
        return self._closing and not (self._finish and (self._samples or self._speaking or self._after))

    def _hungry(self) -> bool:
        """Within an utterance, and nothing to push."""
        return self._speaking and not self._sound

    def _wishes(self) -> None:
        with self._wake:
            changes, self._changes = self._changes, {}
            directions, self._directions = self._directions, []
            stop, self._stop_at = self._stop_at, None
            while self._sound and self._sound[0] is None and not self._speaking:
                self._sound.popleft()  # the end of nothing
            begins = not self._speaking and not self._after and self._samples and self._ready()
        if self._making and (changes or directions or stop is not None or begins):
            self._receive()  # one thing at a time
        if changes:
            self.session.set(**changes)
        for timeline in directions:
            self.session.direct(timeline)
        if stop is not None:
            speaking, self._speaking, self._starved, self._came = self._speaking, False, None, None
            self._made.clear()
            self._after = None
            position = self.session.interrupt(self._shown)
            self.counts.interrupts += 1
            self.counts.interrupt = self._clock.now() - stop
            if speaking:
                self._deliver(Event("interrupted", {"frames": position.frames, "seconds": position.seconds}))
        elif begins:
            self._made.clear()  # idle frames made ahead would only delay the first word
            self.session.interrupt(self._shown)
            self._speaking = True
            self._deliver(Event("started", {}))

    def _ready(self) -> bool:
        return any(piece is None for piece in self._sound) or self._samples >= START * self.rate

    def _make(self) -> None:
        """Begin some frames more, where there can be any."""
        if not self._speaking:
            self._begin(partial(self.session.idle, HOP))
            return
        sound = self._take(round(HOP / FPS * self.rate))
        if len(sound):
            self._starved = None
            self._begin(partial(self.session.push, sound))
            return
        with self._wake:
            ended = bool(self._sound)  # a mark is next
            if ended:
                self._sound.popleft()
        now = self._clock.now()
        if not ended:
            self._starved = self._starved or now
            if now - self._starved < GRACE:
                return
        self._starved, self._flushing = None, True
        self._begin(self.session.flush)

    def _begin(self, make: Making) -> None:
        self._making = self._clock.begin(make, self._woken)

    def _woken(self) -> None:
        with self._wake:
            self._wake.notify_all()

    def _receive(self) -> None:
        """What is being made, waited for."""
        assert self._making
        making, self._making = self._making, None
        self._made.extend(making.result())
        if self._flushing:
            self._flushing = self._speaking = False
            self._came, self._after = None, Event("done", {})

    def _take(self, samples: int) -> np.ndarray:
        """Up to so many samples of what waits before a mark."""
        with self._wake:
            taken: list[np.ndarray] = []
            while samples and self._sound and (piece := self._sound[0]) is not None:
                self._sound.popleft()
                if len(piece) > samples:
                    self._sound.appendleft(piece[samples:])
                    piece = piece[:samples]
                taken.append(piece)
                samples -= len(piece)
                self._samples -= len(piece)
            return np.concatenate(taken) if taken else np.zeros(0, np.float32)

    def _thin(self, behind: float, now: float) -> None:
        """Fewer pictures while the clock runs away, and until CALM seconds after it did."""
        if behind > LATE:
            self._late_at = now
        late = self._late_at is not None and now - self._late_at < CALM
        stride = 2 if late else 1
        if stride != self.session.stride:
            self.session.stride = stride
            self._deliver(Event("thinned", {"pictures_a_second": FPS / stride}))

    def _show(self, frame: Frame, now: float) -> None:
        if frame.speaking and self._came is not None:
            self.counts.first_frame, self._came = now - self._came, None
        self.counts.frames += 1
        self.counts.thinned += frame.picture is self._picture
        self._picture = frame.picture
        self._shown = frame.index
        self._deliver(frame)
