"""Numbers as people read them: bytes, durations, rates. Plain functions; imports nothing of Textual.

Every function takes None (unknown) and shows it as "–", so that a pane never has to ask first.
"""

import math

UNKNOWN = "–"


def size(count: float | None) -> str:
    """Bytes in binary units with the unit spelled out: 21.3 GiB, 616 MiB."""
    if count is None or not math.isfinite(count):
        return UNKNOWN
    for unit, factor in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if abs(count) >= factor:
            value = count / factor
            return f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"
    return f"{count:.0f} B"


def gib(count: float | None) -> str:
    """Bytes as a bare number of GiB, one decimal below 100: for "21.3/140 GiB"."""
    if count is None or not math.isfinite(count):
        return UNKNOWN
    value = count / (1 << 30)
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def duration(seconds: float | None) -> str:
    """Seconds as 00:41, 12:07, 3:25:10 or 2d 03:10."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return UNKNOWN
    whole = int(seconds)
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, secs = divmod(rest, 60)
    if days:
        return f"{days}d {hours:02}:{minutes:02}"
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes:02}:{secs:02}"


def number(value: float | None) -> str:
    """A metric: four significant digits, powers of ten only where they help (2.00e-4)."""
    if value is None:
        return UNKNOWN
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    size_of = abs(value)
    if size_of == 0:
        return "0"
    if size_of < 1e-3 or size_of >= 1e7:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    if size_of >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if value != int(value) else f"{int(value)}"


def tick(value: float | None) -> str:
    """A number at an axis: at most three significant digits."""
    if value is None or not math.isfinite(value):
        return number(value)
    mantissa, e, exponent = number(float(f"{value:.3g}")).partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{exponent}" if e else mantissa


def rate(per_second: float | None) -> str:
    """Tokens per second: 812, 27.1k, 1.2M."""
    if per_second is None or not math.isfinite(per_second):
        return UNKNOWN
    for unit, factor in (("M", 1e6), ("k", 1e3)):
        if per_second >= factor:
            value = per_second / factor
            return f"{value:.1f}{unit}" if value < 100 else f"{value:.0f}{unit}"
    return f"{per_second:.0f}"


def percent(value: float | None) -> str:
    """A share that is already in percent."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:.0f}%"
