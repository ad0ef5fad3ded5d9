"""Continuous batching: texts come, take a free row, are continued together, and leave.

One call of `Engine.step` reads the prompts that have found a row, or draws some tokens for every
row. What a text becomes depends on its own request alone, whatever lies beside it (to the rounding
of float32 sums in another order).
"""

import copy
import time
from collections import deque

import jax
import numpy as np

from specialm.common.errors import UserError
from specialm.data.vocabularies import Vocabulary
from specialm.models import decoder
from specialm.models.config import Config
from specialm.models.transformer import Params
from specialm.serving.decoding import columns, programs
from specialm.serving.decoding.columns import Columns
from specialm.serving.decoding.draw import Choices, Drawn, Kind
from specialm.serving.decoding.programs import STEPS
from specialm.serving.decoding.sampling import Sampling
from specialm.serving.decoding.sequence import CANCELLED, LENGTH, Delta, Sequence, Token

PATIENCE = 16  # steps with fewer texts until rows are given back
FIRST_STEPS = 4  # in the first call of a program, before it is known how long one takes

Event = tuple[Sequence, Delta]


class Engine:
    """A model with its texts. Not thread-safe, but for `Sequence.cancelled`.

    Args:
      rows: texts that are continued at the same time; more wait.
      seconds: how long one call may draw tokens before it reports, about.
      stops: the tokens that end a text; None for those of the vocabulary.

    Raises:
      UserError: the model is not causal.
    """

    def __init__(
        self,
        params: Params,
        config: Config,
        vocabulary: Vocabulary,
        rows: int = 16,
        seconds: float = 0.03,
        stops: frozenset[int] | None = None,
    ):
        if not config.causal:
            raise UserError("model.causal=False: only causal models continue a text.")
        self.config, self.vocabulary, self.most_rows = config, vocabulary, rows
        self.stops = vocabulary.stops if stops is None else stops
        self.params = decoder.laid_out(params, config)
        self._is_end_V = np.isin(np.arange(config.vocab_size), list(self.stops))
        self._seconds = seconds
        self._forget()

    def _forget(self) -> None:
        self.waiting: deque[Sequence] = deque()
        self._columns = Columns(self.config)
        self._rows: list[Sequence | None] = []
        self._pace: dict[tuple, float] = {}  # of a program: seconds for one step
        self._kind = Kind()
        self._fewer = 0  # steps in a row with fewer texts than rows

    def anew(self) -> "Engine":
        """Another one with the same parameters, and no texts."""
        other = copy.copy(self)
        other._forget()
        return other

    def with_params(self, params: Params) -> "Engine":
        """Another one of the same sizes with these parameters; those that are the same in both are
        held once.
        """
        other = self.anew()
        other.params = jax.tree.map(_shared, self.params, decoder.laid_out(params, self.config))
        return other

    def add(self, prompt: list[int], sampling: Sampling, bare: bool = False) -> Sequence:
        """A text that begins with these tokens, in the queue.

        Args:
          bare: whether nothing stands before them, as before a conversation.

        Raises:
          UserError: the prompt leaves no room for a token and must not slide.
        """
        check_length(len(prompt), self.config, sampling)
        context = self.config.context
        sequence = Sequence(prompt, sampling, self.vocabulary, context, bare and bool(prompt))
        self.waiting.append(sequence)
        return sequence

    @property
    def active(self) -> list[Sequence]:
        """The texts that have a row."""
        return [sequence for sequence in self._rows if sequence]

    @property
    def cache_bytes(self) -> int:
        """On the device, now."""
        return self._columns.bytes

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.waiting and not self.active

    def step(self) -> list[Event]:
        """Goes on with all texts; returns what each has gained."""
        events = self._drop_cancelled()
        unread = self._place(events)
        for row in unread:
            events += self._read(row)
        if not unread and self.active:  # first tokens are reported at once
            events += self._advance()
        self._rows = [None if s is None or s.finish else s for s in self._rows]
        return events

    def _drop_cancelled(self) -> list[Event]:
        dropped = [s for s in (*self.waiting, *self.active) if s.cancelled]
        events = [(sequence, sequence.close(CANCELLED)) for sequence in dropped]
        self.waiting = deque(s for s in self.waiting if not s.finish)
        self._rows = [None if s is None or s.finish else s for s in self._rows]
        return events

    def _place(self, events: list[Event]) -> list[int]:
        """Gives waiting texts a row; returns the rows that are to be read. Texts that want no
        token end here.
        """
        nothing = [s for s in self.waiting if not s.sampling.tokens]
        events += [(sequence, sequence.close(LENGTH)) for sequence in nothing]
        self.waiting = deque(s for s in self.waiting if not s.finish)
        active = self.active
        moved = [s for s in active if s.sampling.slide and s.slide()]
        free = self.most_rows - len(active)
        new = [self.waiting.popleft() for _ in range(min(free, len(self.waiting)))]
        if not active:
            self._kind = Kind()
            if not new:
                return []
        self._make_room(active, new, [*moved, *new])
        for sequence in new:
            self._rows[self._rows.index(None)] = sequence
        return [row for row, s in enumerate(self._rows) if s and (s in moved or s in new)]

    def _make_room(self, active: list[Sequence], new: list[Sequence], unread: list) -> None:
        context = self.config.context
        rows = self._wanted_rows(len(active) + len(new))
        lengths = [columns.read_length(len(s.window), context) for s in unread]
        before = max([s.held for s in active if s not in unread] + lengths)
        ahead = max(s.sampling.tokens - s.drawn for s in (*active, *new))
        if active and self._columns.fits(rows, before, 1):
            return
        kept = [row for row, s in enumerate(self._rows) if s]
        self._columns.reshape(kept, rows, before, ahead)
        self._rows = [self._rows[row] for row in kept] + [None] * (rows - len(kept))

    def _wanted_rows(self, count: int) -> int:
        wanted = columns.rows_for(count, self.most_rows)
        self._fewer = self._fewer + 1 if wanted < self._columns.rows else 0
        if wanted < self._columns.rows and self._fewer < PATIENCE and self.active:
            return self._columns.rows
        return wanted

    def _seen(self, sequence: Sequence | None) -> np.ndarray:
        seen_V = np.zeros(self.config.vocab_size, bool)
        seen_V[sequence.tokens if sequence else []] = True
        return seen_V

    def _program(self) -> Kind:
        """The kind of the next call, with what it needs in place: all that any text has needed
        since there was none, so that few programs are compiled.
        """
        wanted = [s.sampling for s in self.active]
        kind = self._kind = Kind(
            draws=self._kind.draws or any(s.temperature > 0 for s in wanted),
            filters=self._kind.filters or any(s.filters for s in wanted),
            penalised=self._kind.penalised or any(s.repetition_penalty != 1 for s in wanted),
            top=max(self._kind.top, _top(max((s.top_logprobs for s in wanted), default=0))),
        )
        state = self._columns.state
        if kind.penalised and state.seen_BxV is None:
            seen_BxV = np.stack([self._seen(s) for s in self._rows])
            self._columns.state = state._replace(seen_BxV=jax.device_put(seen_BxV))
        elif not kind.penalised and state.seen_BxV is not None:
            self._columns.state = state._replace(seen_BxV=None)
        return kind

    def _read(self, row: int) -> list[Event]:
        sequence = self._rows[row]
        assert sequence is not None
        window, kind = sequence.window, self._program()
        length = columns.read_length(len(window), self.config.context)
        padded_1xL = np.zeros((1, length), np.int32)
        padded_1xL[0, length - len(window) :] = window
        self._columns.state, drawn = programs.read(
            self.params,
            self._columns.state,
            padded_1xL,
            np.int32(len(window)),
            np.int32(row),
            np.int32(self._columns.next),
            _choices([sequence]),
            self._seen(sequence) if kind.penalised else None,
            self.config,
            kind,
        )
        one_step = Drawn(*(each[None] for each in jax.device_get(drawn)))
        return [(sequence, self._take(sequence, one_step, 0))]

    def _advance(self) -> list[Event]:
        live = [(row, s) for row, s in enumerate(self._rows) if s and not s.finish]
        # A window that is full is read anew at the next step.
        live_now = [(row, s) for row, s in live if s.steps_left > 0]
        if not live or len(live_now) < len(live):
            return []
        kind = self._program()
        program = (self._columns.rows, self._columns.count, kind)
        steps = self._steps(program, [s for _, s in live])
        started = time.perf_counter()
        self._columns.state, drawn = programs.advance(
            self.params,
            self._columns.state,
            np.array([s.tokens[-1] if s and s.tokens else 0 for s in self._rows], np.int32),
            np.array([s.held if s else 0 for s in self._rows], np.int32),
            np.int32(self._columns.next),
            _choices(self._rows),
            np.int32(steps),
            self._is_end_V,
            np.array([s is None or bool(s.finish) for s in self._rows]),
            self.config,
            kind,
        )
        drawn = Drawn(*(each[:steps] for each in jax.device_get(drawn)))
        self._note_pace(program, (time.perf_counter() - started) / steps)
        self._columns.next += steps
        return [(s, self._take(s, drawn, row)) for row, s in live]

    def _steps(self, program: tuple, live: list[Sequence]) -> int:
        """How many steps the next call takes."""
        pace = self._pace.get(program)
        timely = FIRST_STEPS if pace is None else int(self._seconds / pace) + 1
        sliding = [s.context - s.held for s in live if s.sampling.slide]
        room = self._columns.count - self._columns.next
        most = max(s.steps_left for s in live)
        return max(1, min(STEPS, timely, room, most, *sliding))

    def _note_pace(self, program: tuple, seconds: float) -> None:
        if program not in self._pace:  # it may have been compiled in this call
            self._pace[program] = self._seconds / FIRST_STEPS
        else:
            self._pace[program] = (self._pace[program] + seconds) / 2

    def _take(self, sequence: Sequence, drawn: Drawn, row: int) -> Delta:
        """What a text gains by the tokens that were drawn for its row, up to its end.

        Args:
          drawn: with a leading axis of steps.
        """
        contents, count = self.vocabulary.token_bytes, sequence.sampling.top_logprobs
        tokens, logps = drawn.token_B[:, row].tolist(), drawn.logp_B[:, row].tolist()
        whole = Delta()
        for step, (token, logp) in enumerate(zip(tokens, logps, strict=True)):
            top = _top_of(drawn, step, row, count) if count else ()
            content = contents[token] if token < len(contents) else b""
            delta = sequence.take(Token(token, content, logp, top), token in self.stops)
            whole.text += delta.text
            whole.tokens += delta.tokens
            if delta.finish:
                whole.finish = delta.finish
                break
        return whole


def _shared(held: jax.Array, new: jax.Array) -> jax.Array:
    """The array that is held, if the new one is the same."""
    return held if np.array_equal(held, new) else new


def _top_of(drawn: Drawn, step: int, row: int, count: int) -> tuple[tuple[int, float], ...]:
    """The likeliest tokens at one step."""
    ids, logps = drawn.top_token_Bxa[step, row][:count], drawn.top_logp_Bxa[step, row][:count]
    return tuple(zip(ids.tolist(), logps.tolist(), strict=True))


def check_length(count: int, config: Config, sampling: Sampling) -> None:
    """Raises UserError for a prompt of `count` tokens that fills the window."""
    if count >= config.context and not sampling.slide:
        raise UserError(
            f"prompt: has {count:,} tokens, and the model reads at most {config.context:,}, one of "
            "them before the text; give a shorter one, or generate.slide=True to read its end."
        )


def _top(count: int) -> int:
    """Of the few programs there are: those without, and with 5 or 20 likeliest tokens."""
    return next(size for size in (0, 5, 20) if count <= size)


def _choices(rows: list) -> Choices:
    """Of each row; those of no text are the defaults."""
    given = [s.sampling if s else Sampling() for s in rows]
    return Choices(
        np.array([s.temperature for s in given], np.float32),
        np.array([s.top_k for s in given], np.int32),
        np.array([s.top_p for s in given], np.float32),
        np.array([s.min_p for s in given], np.float32),
        np.array([s.repetition_penalty for s in given], np.float32),
        np.array([s.seed for s in given], np.uint32),
        np.array([s.drawn if s else 0 for s in rows], np.int32),
    )
