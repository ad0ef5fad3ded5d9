"""One text that is being continued: its tokens, its window, its end."""

from dataclasses import dataclass, field

from specialm.data.vocabularies import Vocabulary
from specialm.serving.decoding.sampling import Sampling
from specialm.serving.decoding.text import TextStream

STOP, LENGTH, CANCELLED = "stop", "length", "cancelled"  # why a text ends


@dataclass(frozen=True)
class Token:
    """One that was drawn."""

    id: int
    content: bytes  # UTF-8, perhaps a part of a character
    logp: float  # natural, under the model at temperature 1
    top: tuple[tuple[int, float], ...] = ()  # the likeliest (id, log-probability), best first


@dataclass
class Delta:
    """What one step has added to a text."""

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    finish: str = ""  # STOP, LENGTH or CANCELLED at its end


class Sequence:
    """A request on its way.

    Attributes:
      tokens: ids of the prompt and of what was drawn; what stands before every window is not in it.
      drawn: how many of them were drawn.
      begin: the first of them that the window holds.
      finish: "" until it ends.
      cancelled: set it to have the text ended at the next step.

    Args:
      bare: whether nothing stands before the text.
    """

    def __init__(
        self,
        prompt: list[int],
        sampling: Sampling,
        vocabulary: Vocabulary,
        context: int,
        bare: bool,
    ):
        self.tokens, self.sampling, self.context = list(prompt), sampling, context
        self.drawn, self.finish, self.cancelled = 0, "", False
        self._before = [] if bare else [vocabulary.start]
        self.begin = window_begin(len(self.tokens), context)
        self._text = TextStream(sampling.stop)

    @property
    def window(self) -> list[int]:
        """What the model reads to predict the next token."""
        return [*self._before, *self.tokens[self.begin :]]

    @property
    def held(self) -> int:
        """Tokens of the window without the last one, which a step reads."""
        return len(self._before) + len(self.tokens) - self.begin - 1

    @property
    def steps_left(self) -> int:
        """How many tokens can be drawn, at most, before the window moves or the text ends."""
        return min(self.sampling.tokens - self.drawn, self.context - self.held)

    @property
    def is_context_full(self) -> bool:
        """Whether the text has reached the end of the context, and must not slide."""
        return not self.sampling.slide and len(self.tokens) >= self.context

    def slide(self) -> bool:
        """Moves the window if it has to; returns whether it has moved."""
        begin = window_begin(len(self.tokens), self.context)
        moves, self.begin = begin != self.begin, begin
        return moves

    def take(self, token: Token, ends: bool) -> Delta:
        """Adds a token.

        Args:
          ends: whether it is one that ends a text; it is not a part of it.
        """
        if ends:
            return self.close(STOP)
        self.tokens.append(token.id)
        self.drawn += 1
        delta = Delta(self._text.push(token.content), [token])
        if self._text.stopped:
            self.finish = delta.finish = STOP
        elif self.drawn >= self.sampling.tokens or self.is_context_full:
            delta.text += self.close(LENGTH).text
            delta.finish = self.finish
        return delta

    def close(self, finish: str) -> Delta:
        """Ends the text here."""
        text = self._text.finish()
        self.finish = STOP if self._text.stopped else finish
        return Delta(text, finish=self.finish)


def window_begin(count: int, context: int) -> int:
    """The first of `count` tokens that the window which predicts the next one holds.

    A window has room for one token that stands before the text, and holds at most `context`
    together; when it is full it moves by half of them, so that a long text costs few windows that
    are read anew. A function of the length alone: a text is continued in the same way however it
    came about.
    """
    over, half = count + 1 - context, max(context // 2, 1)
    return max(0, -(-over // half) * half)
