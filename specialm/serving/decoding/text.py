"""From the bytes of tokens to text, as it comes: whole characters, and nothing of a stop string."""

import codecs
from collections.abc import Sequence


class TextStream:
    """Text that grows by the bytes of tokens.

    What may still become a character or a stop string is held back.
    """

    def __init__(self, stop: Sequence[str] = ()):
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""  # text that a stop string may begin with
        self.stopped = False  # a stop string was there

    def push(self, content: bytes) -> str:
        """What can be shown now that these bytes have come."""
        return self._released(self._decoder.decode(content), final=False)

    def finish(self) -> str:
        """What was held back; bytes that are no character become U+FFFD."""
        return self._released(self._decoder.decode(b"", final=True), final=True)

    def _released(self, new: str, final: bool) -> str:
        if self.stopped:
            return ""
        text = self._held + new
        places = [place for place in map(text.find, self._stop) if place >= 0]
        if places:
            self.stopped, self._held = True, ""
            return text[: min(places)]
        held = 0 if final else max((_begun(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _begun(text: str, stop: str) -> int:
    """How many characters at the end of `text` may be the beginning of `stop`."""
    for count in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:count]):
            return count
    return 0
