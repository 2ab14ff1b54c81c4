"""What puts load on a broker and counts what comes of it: one process, one event loop, frames written by hand.

From the bottom: `mark`, `checker`, `frame` are pure; `connection` moves frames; `flow` and `agent` are a publisher's
and a subscriber's side of a `load`; `fleet` connects many. `closed_loop`, `open_loop`, `idle`, `replay` and `opening`
are the measurements.
"""
