"""Tokens as text while they come: whole characters only, and nothing of a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

BEFORE = 8
"""Tokens decoded along with new ones, because some tokenizers write a token differently at the start of a text."""
LONGEST_WINDOW = 64
INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""What a decoder puts where the bytes of a character are not all there."""


class TextStream:
    """The text that follows a prompt, token by token."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], stop: tuple[str, ...] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._window = list(prompt[-BEFORE:])
        self._read = len(self._decoded().rstrip(INCOMPLETE))
        self._given = 0
        self.text = ""
        """All of it so far, up to a stop string."""
        self.stopped = False

    def push(self, ids: Sequence[int]) -> None:
        """Add tokens; bytes of a character that is not complete wait for the next ones."""
        self._window.extend(ids)
        decoded = self._decoded()
        if decoded.endswith(INCOMPLETE):
            return
        self._append(decoded[self._read :])
        if len(self._window) > LONGEST_WINDOW:
            del self._window[:-BEFORE]
            decoded = self._decoded()
        self._read = len(decoded)

    def end(self) -> None:
        """No more tokens come: what waited is text as it is."""
        if not self.stopped:
            self._append(self._decoded()[self._read :])

    def take(self, *, last: bool) -> str:
        """Return what was not taken yet, but, unless it is the `last` time, not what may become a stop string."""
        start = self._given
        self._given = len(self.text) if last else len(self.text) - self._doubtful()
        return self.text[start : self._given]

    def _decoded(self) -> str:
        return str(self._tokenizer.decode(self._window, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _append(self, more: str) -> None:
        """Lengthen the text and cut it at the first stop string."""
        start = max(0, len(self.text) - max(map(len, self._stop), default=0))
        self.text += more
        found = [place for one in self._stop if (place := self.text.find(one, start)) >= 0]
        if found:
            self.text = self.text[: min(found)]
            self.stopped = True

    def _doubtful(self) -> int:
        """Return how many characters at the end may be the beginning of a stop string."""
        if self.stopped:
            return 0
        lengths = (n for one in self._stop for n in range(1, len(one)) if self.text.endswith(one[:n]))
        return max(lengths, default=0)
