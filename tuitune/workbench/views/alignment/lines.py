"""What the alignment view draws: its head, three pages of lines, the words about one of them. Pure functions over the document."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from tuitune.preflight.alignment import Alignment, CoveredBlock, CoveredPart, End, TokenRow
from tuitune.text import printable
from tuitune.workbench.parts.role_lines import Line, Piece

PAGES = ("tokens", "ends", "coverage")
KINDS = {"trained": ("●", "good"), "frozen": ("○", ""), "unreachable": ("·", "dim")}
HEADINGS = ("token", "id", "role", "norm", "nearest row", "in data", "in loss", "learnt")
LOSS, NEAR = 62, 84  # cells from which on these columns are shown
NEAR_ZERO = 0.05  # of the median norm
SAME = 0.999  # a cosine that untrained rows have


@dataclass(frozen=True)
class Entry:
    """A line of a page, and what is said when the cursor stands on it. `heading`: the cursor passes over it."""

    line: Line
    about: str = ""
    fault: bool = False
    heading: bool = False


def head(found: Alignment) -> list[str]:
    """Sentences over the vocabulary, the matrices and what trains them."""
    words = f"{found.vocabulary:,} tokens, the largest id {found.largest:,}"
    if found.input is None:
        return [f"{words}; the weights are not on this box", found.method]
    given, taken = found.input, found.output
    words += f" · {given.rows:,} rows of {given.width:,} ({given.dtype})"
    if found.rows not in (None, given.rows):
        words += f", {found.rows:,} in training"
    tied = "output tied to it" if found.tied else f"output {taken.rows:,} rows of its own" if taken else "no output matrix in the weights"
    parts = [part for block in found.coverage for part in [*block.parts] * block.count]
    trained = sum(part.trained for part in parts)
    return [f"{words} · {tied}", f"{found.method}: {trained:,} parameters trained" if parts else found.method]


def page(found: Alignment, name: str, width: int) -> list[Entry]:
    """The lines of one of PAGES."""
    if name == "tokens":
        return _tokens(found, width)
    return _ends(found, width) if name == "ends" else _coverage(found, width)


def cell(text: str, width: int, *, right: bool = False) -> str:
    """Printable text in exactly `width` cells."""
    shown = printable(text)
    if cell_len(shown) > width:
        return set_cell_size(shown, max(0, width - 1)) + "…"
    blanks = " " * (width - cell_len(shown))
    return blanks + shown if right else shown + blanks


def _tokens(found: Alignment, width: int) -> list[Entry]:
    """A line a token, those with faults first."""
    entries = [Entry(_columns(("  ", ""), [(name, "dim") for name in HEADINGS], width), heading=True)]
    for token in sorted(found.tokens, key=lambda token: (not token.faults, token.id)):
        sign = ("! " if token.faults else "  ", "error")
        entries.append(Entry(_columns(sign, _cells(token), width), _about(token, found), bool(token.faults)))
    if found.left_out:
        entries.append(Entry(((f"  and {found.left_out:,} added tokens that nothing uses", "dim"),), heading=True))
    return entries


def _cells(token: TokenRow) -> list[Piece]:
    """What stands under HEADINGS for a token."""
    strange = token.used != 0 and token.norm is not None and token.norm < NEAR_ZERO
    alike = token.used != 0 and token.nearest is not None and token.nearest[1] > SAME  # unused rows are alike in many sound models
    quiet = "dim" if token.used == 0 else ""
    return [
        (token.text, quiet or "title"),
        (str(token.id), "dim"),
        (" ".join(token.roles), "one"),
        ("no row" if not token.present else "-" if token.norm is None else f"{token.norm:.2f}×", "warn" if strange else ""),
        (f"{token.nearest[1]:.2f} {token.nearest[0]}" if token.nearest else "-", "warn" if alike else "dim"),
        (_count(token.used), quiet),
        (_count(token.in_loss), quiet),
        ("yes" if token.trained else "no", "good" if token.trained else "dim"),
    ]


def _columns(sign: Piece, cells: Sequence[Piece], width: int) -> Line:
    """Cells under each other; where there is little room the nearest row and the rows in the loss are left to the words below."""
    text, id, role, norm, nearest, used, in_loss, learnt = cells
    near, loss = width >= NEAR, width >= LOSS
    room = width - 2 - sum(size + 1 for size in (6, 7, 6, 7, 6, *((7,) if loss else ())))
    name = max(10, (room // 2 if near else room) - 1)
    shown = [(text, name, False), (id, 6, True), (role, 7, False), (norm, 6, True)]
    shown += [(nearest, room - name - 2, False)] if near else []
    shown += [(used, 7, True), *([(in_loss, 7, True)] if loss else []), (learnt, 6, False)]
    return (sign, *((cell(words, size, right=right) + " ", look) for (words, look), size, right in shown))


def _count(number: int | None) -> str:
    """At most six cells."""
    return "?" if number is None else f"{number:,}" if number < 100_000 else f"{number // 1000:,}k"


def _about(token: TokenRow, found: Alignment) -> str:
    """All about one token in a few sentences; the faults first."""
    words = [f"{token.text}: {fault}." for fault in token.faults]
    if "new" in token.roles:
        words.append("New: its row begins at the mean of all others.")
    elif token.norm is not None:
        words.append(f"Its row is {token.norm:.2f} times as long as the median.")
    elif not token.present and found.input is not None:
        words.append(f"The embedding ends at row {found.input.rows - 1:,}.")
    if token.nearest:
        among = " of those looked at" if found.sampled else ""
        words.append(f"The most similar row{among} is that of {token.nearest[0]} (cosine {token.nearest[1]:.3f}).")
    if token.used is not None:
        words.append(f"{token.used:,} training rows have it, {token.in_loss:,} as something to be learnt.")
    words.append("Its row is trained and saved with the result." if token.trained else "Its row stays as it is, nothing of it is saved.")
    return " ".join(words)


def _ends(found: Alignment, width: int) -> list[Entry]:
    """eos, pad and bos in three columns."""
    room = max(12, (width - 18) // 3)
    title = f"  {'':<5} " + " ".join(cell(name, room) for name in ("tokenizer", "config.json", "generation_config"))
    entries = [Entry(((cell(title, width), "dim"),), heading=True)]
    for end in found.ends:
        sides = (end.tokenizer, end.config, end.generation)
        shown = " ".join(cell(", ".join(f"{text} {id}" for id, text in side) or "-", room) for side in sides)
        said = "differ" if end.agree is False else "agree" if end.agree else ""
        entries.append(
            Entry(
                (("! " if end.agree is False else "  ", "warn"), (f"{end.role:<5} ", "title"), (shown, ""), (f" {said}", _tone(end))),
                _about_end(end),
                end.agree is False,
            )
        )
    return entries


def _tone(end: End) -> str:
    return "warn" if end.agree is False else "good"


def _about_end(end: End) -> str:
    if end.role == "eos" and end.agree is False:
        own = ", ".join(text for _, text in end.tokenizer) or "nothing"
        told = ", ".join(text for _, text in end.generation or end.config)
        return (
            f"The tokenizer ends a turn with {own}, generation stops at {told}: what is trained does not stop there when it is used. "
            "The trainer adds the tokenizer's to generation_config when it saves; choose another with tokenizer.eos_token."
        )
    if end.role == "pad" and not end.tokenizer:
        return "The tokenizer has no padding token; TRL pads with the end token and masks by length, so nothing is lost."
    if end.agree is False:
        return f"The files name different {end.role} tokens; the trainer writes the tokenizer's into the model it saves."
    return f"The {end.role} token is the same wherever it is named." if end.agree else f"Only one place names a {end.role} token."


def _coverage(found: Alignment, width: int) -> list[Entry]:
    """A tree: blocks that are alike as one, their modules below."""
    if not found.coverage:
        return [Entry((("  nothing is known of the modules", "dim"),), heading=True)]
    legend = "   ".join(f"{sign} {kind}" for kind, (sign, _) in KINDS.items())
    entries = [Entry(((cell(f"  {legend}", width), "dim"),), heading=True)]
    for block in found.coverage:
        if block.first is not None:
            entries.append(_block(block, width))
        indent = 0 if block.first is None else 2
        entries += [_part(part, block, width, indent) for part in block.parts]
    return entries


def _block(block: CoveredBlock, width: int) -> Entry:
    span = f"{block.first}" if block.count == 1 else f"{block.first} to {block.last}"
    trained, whole = (sum(getattr(part, name) for part in block.parts) for name in ("trained", "parameters"))
    alike = "" if block.count == 1 else f", {block.count} alike"
    words = f"{block.name} {span}{alike}"
    each = " each" if block.count > 1 else ""
    figures = f"+{trained:,}{each}" if trained else ""
    line = (("  ", ""), (cell(words, max(10, width - 4 - len(figures))), "title"), (f" {figures}", "good"))
    return Entry(line, f"{words}: {trained:,} trained parameters, {whole:,} of the model{each}.")


def _part(part: CoveredPart, block: CoveredBlock, width: int, indent: int) -> Entry:
    sign, role = KINDS[part.kind]
    shape = "×".join(map(str, part.shape))
    beside = f"+{part.trained:,}" if part.trained else ""
    name = max(10, width - indent - 31)
    line = (
        ("  " + " " * indent, ""),
        (f"{sign} ", role),
        (cell(part.name, name), role),
        (cell(shape, 13, right=True), "dim"),
        (f" {beside:>12}", "good"),
    )
    each = f" in each of {block.count} blocks" if block.count > 1 else ""
    said = {
        "trained": f"{part.trained:,} parameters are trained here{each}.",
        "frozen": f"It stays as it is{each}; peft.target_modules could name it.",
        "unreachable": f"It stays as it is{each}: LoRA has no layer for it; only modules_to_save trains it.",
    }
    return Entry(line, f"{part.name} ({shape}, {part.parameters:,} parameters). {said[part.kind]}")


def fault_after(entries: Sequence[Entry], at: int) -> int | None:
    """The next entry with a fault, round the end; None when there is none."""
    count = len(entries)
    return next(((at + ahead) % count for ahead in range(1, count + 1) if entries[(at + ahead) % count].fault), None)
