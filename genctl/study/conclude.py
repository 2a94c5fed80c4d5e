"""What a study comes to: table, plot, and what is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genctl.study.directory import StudyDirectory
from genctl.study.picture import draw
from genctl.study.plan import Study
from genctl.study.table import TRAIN_KEYS, collect, write_table


def conclude_study(study: Study, directory: StudyDirectory, stopped_by: str) -> dict[str, Any]:
    """Write table and plot from all results there are.

    Returns:
        The object that ``genctl study --json`` prints, with ``error`` where a run failed: its exit
        code is theirs where all failed alike, else 1.
    """
    groups = collect(study, directory)
    table = write_table(study, directory, groups)
    if study.metrics:
        draw(directory.plot, study, groups)
    names = {(t.entry, _settings(t.settings), t.seed): t.name for t in study.trials}
    failed = [
        {"run": names[group.entry, _settings(group.settings), fail["seed"]], **fail}
        for group in groups
        for fail in group.failed
    ]
    payload: dict[str, Any] = {
        "study": str(directory.path),
        "runs": len(study.trials),
        "done": sum(len(group.seeds) for group in groups),
        "failed": failed,
        "left": sum(len(group.missing) for group in groups),
        "stopped_by": stopped_by,
        "table": str(directory.path / "table.json"),
        "plot": str(directory.plot) if study.metrics else None,
        "groups": table["groups"],
        "trends": table["trends"],
    }
    if failed:
        payload["error"] = _error(directory, len(study.trials), failed)
    return payload


def as_text(study: Study, payload: dict[str, Any]) -> str:
    """A line for each group, with what is plotted or else measured; the trends and the files."""
    metrics = study.metrics or _measured(payload["groups"])
    head = ["run", *metrics, "seeds"]
    rows = [head]
    for group in payload["groups"]:
        where = " ".join([group["entry"], *(f"{k}={v}" for k, v in group["settings"].items())])
        cells = [_cell(group["metrics"].get(metric)) for metric in metrics]
        seeds = str(len(group["seeds"]))
        if group["failed"]:
            seeds += f", {len(group['failed'])} failed"
        if group["missing"]:
            seeds += f", {len(group['missing'])} left"
        rows.append([where, *cells, seeds])
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    for trend in payload["trends"]:
        if trend["spearman"] is not None:
            rho = f"Spearman's rho {trend['spearman']:+.2f} (n = {trend['n']})"
            lines.append(f"{trend['line']}: {trend['y']} against {trend['x']}: {rho}")
    lines += [payload["table"], *([payload["plot"]] if payload["plot"] else [])]
    return "\n".join(lines)


def _measured(groups: Sequence[dict[str, Any]]) -> list[str]:
    """The number that stands for each measure."""
    first: dict[str, str] = {}
    for key in (key for group in groups for key in group["metrics"]):
        if key not in TRAIN_KEYS and "/" not in key:
            first.setdefault(key.partition(".")[0], key)
    return list(first.values())


def _cell(found: dict[str, Any] | None) -> str:
    if found is None or found["mean"] is None:
        return "-"
    return f"{found['mean']:.4g}" + (f" ± {found['std']:.2g}" if found["std"] is not None else "")


def _settings(settings: Any) -> tuple[tuple[str, str], ...]:
    return tuple((key, repr(value)) for key, value in settings.items())


def _error(
    directory: StudyDirectory, runs: int, failed: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    codes = {fail["code"] for fail in failed}
    named = "; ".join(f"{f['run']} ({f['code']}): {f['reason']}" for f in failed[:5])
    more = f"; and {len(failed) - 5} more" if len(failed) > 5 else ""
    again = "" if codes == {6} else "; the same command tries again what did not diverge"
    return {
        "code": codes.pop() if len(codes) == 1 else 1,
        "thing": str(directory.path),
        "reason": f"{len(failed)} of {runs} runs failed: {named}{more}",
        "remedy": f"their words are in {directory.path / 'logs'}{again}",
    }
