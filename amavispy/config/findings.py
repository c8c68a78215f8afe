"""Findings - what a cross check of a draft says: a fault stops the daemon, a warning does not."""

from __future__ import annotations

from dataclasses import dataclass

from amavispy.config.sources import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about the settings together, at the path of the one that should change."""

    path: Path
    problem: str
    allowed: str = ""
    is_fault: bool = False


def fault(path: Path, problem: str, allowed: str = "") -> Finding:
    return Finding(path, problem, allowed, is_fault=True)


def warning(path: Path, problem: str, allowed: str = "") -> Finding:
    return Finding(path, problem, allowed)
