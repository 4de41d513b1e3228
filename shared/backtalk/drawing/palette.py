"""The colours of the drawing; the page maps each one to its own, for light and dark."""

from __future__ import annotations

from typing import Final

INK: Final = "#1f2937"
MUTED: Final = "#64748b"
LINE: Final = "#8b95a5"
PAPER: Final = "#fdfdfe"
STACK: Final = "#f1f5f9"
PARAMETER: Final = "#eef2ff"
ACCENT: Final = "#4f46e5"
OPERATION: Final = "#334155"
ON_OPERATION: Final = "#f8fafc"
ON_OPERATION_MUTED: Final = "#cbd5e1"
NOTE: Final = "#fef3c7"
ON_NOTE: Final = "#78350f"
BADGE: Final = "#b45309"
ON_BADGE: Final = "#fffbeb"
FAILURE: Final = "#b91c1c"
