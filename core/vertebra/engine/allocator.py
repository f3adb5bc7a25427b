"""The C library's allocator, told to keep large buffers instead of giving them back to the system.

A training step frees and takes the same buffers again and again. glibc hands those over 32 MiB, and at first much smaller
ones, back to the kernel, which then clears each of their pages anew: a fifth of a step's time.
"""

from __future__ import annotations

import ctypes
import platform

# From glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEEP = (1 << 31) - 1
_GROW = 64 << 20


def keep_large_buffers() -> bool:
    """Serve every size from the heap and never shrink it; say whether this system's allocator can be told so."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _KEEP), (_TOP_PAD, _GROW))
    return all(mallopt(name, value) for name, value in settings)
