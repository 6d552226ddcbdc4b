"""Cells per second of the loaders of transpert beside those of others, on the same cells and the same machine.

``python benchmarks/throughput/run.py --cells 100000`` prints one JSON line a row. Ours and a peer measure in turn,
pair by pair, and a row is the median of the pairs: what else runs on the machine slows both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from environments import REQUIREMENTS, python_of
from generate import write_cells
from growth import measure_build, measure_epochs, measure_growth
from loaders import LOADERS, SET_SIZE, SETS
from models import MODELS

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    # what is measured, ours, the peer, the state of the page cache
    ("paired sets from memory", "transpert-memory", "cell-load", "warm"),
    ("paired sets from memory", "transpert-memory", "cell-load-consecutive", "warm"),
    ("paired sets from disk", "transpert-store", "cell-load", "warm"),
    ("paired sets from disk", "transpert-store", "cell-load-consecutive", "warm"),
    ("paired sets from disk", "transpert-store", "cell-load", "cold"),
    ("paired sets from memory; single cells", "transpert-memory", "scvi-tools", "warm"),
    ("paired sets from disk; single cells", "transpert-store", "bionemo-scdl", "warm"),
    ("paired sets from disk; shuffled chunks", "transpert-store", "annbatch", "warm"),
    ("training, end to end, matched parameters", "transpert-train", "state-train", "warm"),
    ("prediction of log values, matched parameters", "transpert-predict-log", "state-predict", "warm"),
    ("prediction of counts; log values, matched parameters", "transpert-predict", "state-predict", "warm"),
]
PACKAGES = {name: package for name, (_, package) in {**LOADERS, **MODELS}.items()}


class Worker:
    """A loader in a process of its own."""

    def __init__(self, name: str, path: Path, peers: Path, accelerator: str) -> None:
        package = PACKAGES[name]
        python = sys.executable if package == "transpert" else str(python_of(package, peers))
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")} if package == "transpert" else os.environ
        script = str(Path(__file__).with_name("models.py" if name in MODELS else "loaders.py"))
        arguments = [name, str(path), *([accelerator] if name in MODELS else [])]  # loaders have none
        self._log = path.with_name(f"{path.stem}-{name}.log")
        self._process = subprocess.Popen(
            [python, script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._log.open("w"), text=True, env=environment,
        )  # fmt: skip
        answer = self._answer()
        self.name, self.version, self.parameters = name, answer["version"], answer.get("parameters")
        self.device = answer.get("device")

    def measure(self, seconds: float, cache: str) -> dict[str, float]:
        """Let the loader run for some seconds."""
        self._process.stdin.write(f"{seconds} {cache}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the loader ended; see {self._log}")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def workers(names: tuple[str, str], path: Path, peers: Path, accelerator: str) -> Iterator[list[Worker]]:
    """Two loaders, ready to measure."""
    started: list[Worker] = []
    try:
        started.extend(Worker(name, path, peers, accelerator) for name in names)
        yield started
    finally:
        for worker in started:
            worker.close()


def compare(
    row: tuple[str, str, str, str], path: Path, peers: Path, *, pairs: int, seconds: float, accelerator: str
) -> dict:
    """Measure ours and a peer in turn."""
    what, ours, peer, cache = row
    results: dict[str, list[dict]] = {ours: [], peer: []}
    with workers((ours, peer), path, peers, accelerator) as started:
        for worker in started:
            worker.measure(seconds / 2, cache)  # not counted: caches fill, code is compiled
        for i in range(pairs):
            for worker in started if i % 2 == 0 else started[::-1]:
                results[worker.name].append(worker.measure(seconds, cache))
        versions = {worker.name: worker.version for worker in started}
        parameters = {worker.name: worker.parameters for worker in started if worker.parameters}
        devices = {worker.device for worker in started if worker.device}
    waits = [result["loader_wait"] for result in results[ours] if "loader_wait" in result]
    rates = {name: [result["cells_per_s"] for result in found] for name, found in results.items()}
    ratios = [a / b for a, b in zip(rates[ours], rates[peer], strict=True)]
    return {
        "row": what,
        "page_cache": cache,
        "ours": ours,
        "peer": peer,
        "peer_version": versions[peer],
        **({"ours_parameters": parameters[ours], "peer_parameters": parameters[peer]} if parameters else {}),
        **({"device": ", ".join(sorted(devices))} if devices else {}),
        **({"ours_loader_wait": statistics.median(waits)} if waits else {}),
        "ours_cells_per_s": statistics.median(rates[ours]),
        "peer_cells_per_s": statistics.median(rates[peer]),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
        "ours_memory_gb": max(result["peak_memory_gb"] for result in results[ours]),
        "peer_memory_gb": max(result["peak_memory_gb"] for result in results[peer]),
    }


def machine() -> str:
    """Describe the machine in a line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        model = next(
            (line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line), model
        )
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores of {model}, {system}"


_MODELS_TEXT = (
    "Rows of models have the loader and the model in the measured time, in one thread where OMP_NUM_THREADS=1: SCALE",
    "with one network as deep as in the preset small (Lightning, averaged weights) beside",
    "StateTransitionPerturbationModel of arc-state with two layers and the loader that comes with it, at the same",
    "number of parameters to 2 %, without its table of words, which it never looks up. A prediction ends in an array",
    "of log values for both, ours in an AnnData; a prediction of counts also draws integer counts. On a GPU both",
    "compute in bfloat16. The loader's share of our training steps is the time until the next batch is ready.",
)


def write_page(page: Path, rows: list[dict], command: str) -> None:
    """Write the page of the documentation."""
    devices = sorted({row["device"] for row in rows} - {"cpu"}) if all("device" in row for row in rows) else []
    lines = [
        "# Throughput of models" if any("ours_parameters" in row for row in rows) else "# Throughput of the loaders",
        "",
        f"Measured on {date.today()} on {', '.join([*devices, machine()])}, with `{command}`.",
        "",
        "Every cell that a loader hands out as a dense float32 tensor counts, controls included. transpert and",
        "cell-load hand out sets of perturbed cells, each with as many controls of its cell type and batch; the other",
        "loaders hand out single cells without pairing, so they do less. transpert densifies and takes log1p in the",
        "measured time; cell-load reads log1p values that were written dense; the others hand out counts. The loaders",
        f"run in turn, pair by pair; a row is the median over the pairs (sets of {SET_SIZE}, {SETS} sets in a batch).",
        "Peak memory includes the imported libraries and, for loaders from memory, the cells.",
        *(_MODELS_TEXT if any("ours_parameters" in row for row in rows) else ()),
        "",
        "| cells | what | page cache | ours, cells/s | peer | peer, cells/s | ratio (range) | memory, GB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "peer" in row:
            wait = f"; loader wait {row['ours_loader_wait']:.1%}" if "ours_loader_wait" in row else ""
            lines.append(
                f"| {row['cells']:,} | {row['row']}{wait} | {row['page_cache']} | {row['ours_cells_per_s']:,.0f} "
                f"| {row['peer']} {row['peer_version']} | {row['peer_cells_per_s']:,.0f} "
                f"| {row['ratio']:.1f} ({row['ratio_low']:.1f}-{row['ratio_high']:.1f}) "
                f"| {row['ours_memory_gb']:.2f} / {row['peer_memory_gb']:.2f} |"
            )
        elif "resident_gb" in row:
            lines.append(
                f"| {row['cells']:,} | {row['row']}, number {row['epoch'] + 1} | - | {row['cells_per_s']:,.0f} "
                f"| - | - | - | {row['resident_gb']:.2f} |"
            )
        elif "seconds" in row:
            used = f"{row['seconds']:.0f} s, of the processor {row['processor_seconds']:.0f} s"
            lines.append(f"| {row['cells']:,} | {row['row']} | - | {used} | - | - | - | {row['memory_gb']:.2f} |")
        else:
            lines.append(
                f"| {row['cells']:,} | {row['row']} | - | {row['ours_cells_per_s']:,.0f} | - | - | - "
                f"| {row['ours_memory_gb']:.2f} |"
            )
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Generate, build, measure, and print one JSON line a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[100_000])
    parser.add_argument("--pairs", type=int, default=5, help="pairs of measurements a row")
    parser.add_argument("--seconds", type=float, default=3.0, help="duration of one measurement")
    parser.add_argument("--peers", nargs="+", choices=sorted(REQUIREMENTS), default=sorted(REQUIREMENTS))
    parser.add_argument("--folder", type=Path, default=ROOT / ".peers", help="environments and data")
    parser.add_argument("--only", nargs="+", choices=sorted(PACKAGES), help="only rows with one of these")
    parser.add_argument("--accelerator", choices=["cpu", "gpu"], default="cpu", help="where the models run")
    parser.add_argument("--growth", type=int, nargs="+", help="cells of the stores between which growth is measured")
    parser.add_argument("--page", type=Path, help="write the page of the documentation to this file")
    arguments = parser.parse_args()
    rows = []
    data = arguments.folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    for n_cells in arguments.cells:
        path = data / f"cells-{n_cells}.h5ad"
        if not path.exists():
            start = time.perf_counter()
            write_cells(path, n_cells)
            print(f"generated {path} in {time.perf_counter() - start:.0f} s", file=sys.stderr)
        built = measure_build(path)
        wanted = [row for row in ROWS if PACKAGES[row[2]] in arguments.peers]
        if arguments.only:
            wanted = [row for row in wanted if {row[1], row[2]} & set(arguments.only)]
        for row in (*built, *wanted):
            if isinstance(row, tuple):
                row = compare(
                    row,
                    path,
                    arguments.folder,
                    pairs=arguments.pairs,
                    seconds=arguments.seconds,
                    accelerator=arguments.accelerator,
                )
            rows.append({"cells": n_cells, **row})
            print(json.dumps({**rows[-1], "machine": machine(), "date": str(date.today())}), flush=True)
    if arguments.growth:
        epochs = measure_epochs(data, max(arguments.growth))
        for row in [*measure_growth(data, arguments.growth), *epochs]:
            rows.append(row)
            print(json.dumps({**row, "machine": machine(), "date": str(date.today())}), flush=True)
    if arguments.page:
        write_page(arguments.page, rows, f"python benchmarks/throughput/run.py {_options(arguments)}")


def _options(arguments: argparse.Namespace) -> str:
    """Say the options that a result depends on, as they are given on the command line."""
    said = {"cells": arguments.cells, "pairs": [arguments.pairs], "seconds": [f"{arguments.seconds:g}"]}
    if arguments.peers != sorted(REQUIREMENTS):
        said["peers"] = arguments.peers
    if arguments.accelerator != "cpu":
        said["accelerator"] = [arguments.accelerator]
    said |= {name: found for name in ("only", "growth") if (found := getattr(arguments, name))}
    return " ".join(f"--{name} {' '.join(map(str, values))}" for name, values in said.items())


if __name__ == "__main__":
    main()
