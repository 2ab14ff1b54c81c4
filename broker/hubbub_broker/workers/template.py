"""The template: a process that has everything imported and nothing begun, and forks a worker whenever it is asked to.

A worker that dies is back in a tenth of the time that a new interpreter takes, and the others' processors stay theirs.
It has one thread and no event loop, so that what it forks begins clean. It ends when whoever asks is gone.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
from collections.abc import Callable


def serve(descriptor: int, begin: Callable[[int], None]) -> None:
    """Fork for whoever has the other end of this socket.

    Args:
        descriptor: the socket. Each byte brings a descriptor, which is one worker's.
        begin: a worker's life, given that descriptor. Called in the new process, which ends with it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor to hear
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the workers; their sockets' ends tell of it
    requests = socket.socket(fileno=descriptor)
    gc.collect()
    gc.freeze()  # what is shared now stays shared
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, 1, 1)
        if not data:
            return
        for worker in descriptors:
            if os.fork() == 0:
                requests.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                begin(worker)
                return
            os.close(worker)
