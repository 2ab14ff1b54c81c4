"""Many workers' metrics as one page: each sample with the label `worker`, each family described once. Pure text."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{)?")
_END = "# EOF"

UP = "hubbub_worker_up"
"""Says of whom there are figures."""


def join(texts: Mapping[int, str], up: Mapping[int, bool]) -> str:
    """One exposition of several, in Prometheus' text or in OpenMetrics, as they are.

    Args:
        texts: each worker's exposition.
        up: every worker, and whether it answered.
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    ends = False
    for worker, text in texts.items():
        family = ""
        for line in text.splitlines():
            if line == _END:
                ends = True
            elif line.startswith("# "):
                family = line.split(" ", 3)[2]
                head = heads.setdefault(family, [])
                if line not in head:
                    head.append(line)
            elif line:
                samples.setdefault(family, []).append(_labelled(line, worker))
    lines = [line for family, head in heads.items() for line in (*head, *samples.get(family, ()))]
    lines += [f"# HELP {UP} 1 if the worker answered.", f"# TYPE {UP} gauge"]
    lines += [f'{UP}{{worker="{worker}"}} {float(there)}' for worker, there in up.items()]
    if ends:
        lines.append(_END)
    return "\n".join(lines) + "\n"


def _labelled(line: str, worker: int) -> str:
    match = _SAMPLE.match(line)
    assert match is not None, "a line of an exposition is a comment or a sample"
    name, labels = match.groups()
    rest = line[match.end() :]
    return (
        f'{name}{{worker="{worker}"{"," if labels and not rest.startswith("}") else ""}{rest if labels else "}" + rest}'
    )
