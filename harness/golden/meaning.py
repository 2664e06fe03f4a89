# SPDX-License-Identifier: GPL-2.0-or-later
"""What the difference of two logs means, in sentences, and how often each is true.

``node filter shows two more bitmaps, in 28 places`` says more than the lines in which it shows.
The sentences speak of the second log as seen from the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, Final

from .steps import Step, steps

_NUMBERS: Final = ("no", "one", "two", "three", "four", "five", "six")
_ABOUT_TIME: Final = "timestamp"
_OTHER_DATA: Final = "other data"
_WORDING: Final = "the wording differs"
_OTHERWISE: Final = "answers otherwise"
_ORDER: Final = "come in another order"
_VAGUE: Final = (_OTHER_DATA, _WORDING, _OTHERWISE, _ORDER)
"""How sentences end that do not say what exactly differs."""


def meaning(before: str, after: str) -> Counter[str]:
    """What has changed, and in how many places; empty if the logs say the same."""
    old, new = list(steps(before)), list(steps(after))
    found: Counter[str] = Counter()
    matcher = SequenceMatcher(None, [each.key for each in old], [each.key for each in new],
                              autojunk=False)
    for tag, low, high, low_new, high_new in matcher.get_opcodes():
        if tag == "equal" or high - low == high_new - low_new:
            for one, other in zip(old[low:high], new[low_new:high_new], strict=True):
                found.update(_of_step(one, other))
        else:
            found.update(f"a step is gone: {each.title}" for each in old[low:high])
            found.update(f"a step is new: {each.title}" for each in new[low_new:high_new])
    if not found and before != after:
        found[_WORDING] += 1
    return found


def says_all(found: Mapping[str, int]) -> bool:
    """Whether the sentences leave nothing open: then logs that differ by them differ alike."""
    return bool(found) and not any(text.endswith(_VAGUE) for text in found)


def sentences(found: Mapping[str, int]) -> list[str]:
    """One line each, the most frequent first."""
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return [text if count == 1 else f"{text}, in {count} places" for text, count in ordered]


def _of_step(old: Step, new: Step) -> Iterator[str]:
    if old == new:
        return
    if old.asked != new.asked:
        yield from _of_command(old, new)
    if old.answer == new.answer:
        return
    if old.table is not None and new.table is not None:
        if old.command is not None:
            yield from _of_jobs(old.table["return"], new.table["return"])
        else:
            yield from _of_bitmaps(old.table, new.table)
    elif old.messages or new.messages:
        yield from _of_messages(old, new)
    else:
        yield from _of_text(old, new)


def _of_command(old: Step, new: Step) -> Iterator[str]:
    if old.command is None or new.command is None or old.title != new.title:
        if old.key != new.key:
            yield f"instead of: {old.title}, there is: {new.title}"
        return
    name = old.title
    before, after = old.command.get("arguments", {}), new.command.get("arguments", {})
    yield from _of_members(f"{name} is sent", before, after)


def _of_members(what: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted({*before, *after} - {_ABOUT_TIME}):
        if key not in after:
            yield f"{what} without {key}"
        elif key not in before:
            yield f"{what} with {key}"
        elif before[key] != after[key]:
            yield f"{what} with {key} {after[key]}, not {before[key]}"


def _of_bitmaps(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for node in sorted({*before, *after}):
        old, new = before.get(node, []), after.get(node, [])
        more = len(new) - len(old)
        if more:
            kind = "bitmap" if abs(more) == 1 else "bitmaps"
            yield (f"node {node} shows {_number(abs(more))} "
                   + (f"more {kind}" if more > 0 else f"{kind} less"))
        for one, other in zip(*_matching(old, new), strict=True):
            name = f"bitmap {one['name']}" if "name" in one else "a bitmap without name"
            yield from _of_members(f"node {node} shows {name}", one, other)


def _matching(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]],
              ) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """The bitmaps that are the same ones in both lists: by name, or, of as many, by place."""
    if len(old) == len(new):
        return list(old), list(new)
    named = {each["name"]: each for each in new if "name" in each}
    pairs = [(each, named[each["name"]]) for each in old if each.get("name") in named]
    return [one for one, _ in pairs], [other for _, other in pairs]


def _of_jobs(before: Iterable[Mapping[str, Any]],
             after: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    old, new = ({each["id"]: each for each in jobs} for jobs in (before, after))
    for name in sorted({*old, *new}):
        if name not in new:
            yield f"job {name} is not shown any more"
        elif name not in old:
            yield f"job {name} is shown"
        else:
            yield from _of_members(f"job {name} is shown", old[name], new[name])


def _of_messages(old: Step, new: Step) -> Iterator[str]:
    """An answer to a QMP command, and events."""
    before, after = _outcome(old), _outcome(new)
    if before != after:
        yield f"{old.title} {after}, where it {before}"
    events, now = _events(old), _events(new)
    names, names_now = [name for name, _ in events], [name for name, _ in now]
    if sorted(names) != sorted(names_now):
        for name, count in (Counter(names_now) - Counter(names)).items():
            yield from [f"event {name} comes, and did not"] * count
        for name, count in (Counter(names) - Counter(names_now)).items():
            yield from [f"event {name} does not come any more"] * count
    elif names != names_now:
        yield f"events of {old.title} {_ORDER}"
    else:
        for (name, data), (_, data_now) in zip(events, now, strict=True):
            yield from _of_members(f"event {name} comes", data, data_now)
    if before == after == "answers":
        yield f"{old.title} {_OTHERWISE}"


def _outcome(step: Step) -> str:
    for message in step.messages:
        if "error" in message:
            return f"is refused ({message['error'].get('desc')})"
        if message.get("return"):
            return "answers"
    text = next((line for line in step.answer if not line.startswith("{")), None)
    return f"says: {text}" if text else "is accepted" if step.messages else "says nothing"


def _events(step: Step) -> list[tuple[str, Mapping[str, Any]]]:
    return [(str(each["event"]), each.get("data", {}))
            for each in step.messages if "event" in each]


def _of_text(old: Step, new: Step) -> Iterator[str]:
    """What a client of an export says: a result, and then perhaps who wrote what it read."""
    before, after = (next((line for line in each.answer if not line.startswith(" ")), "")
                     for each in (old, new))
    if before != after:
        yield f"{old.title} says: {after or 'nothing'}, not: {before or 'nothing'}"
    elif old.title.startswith("content of "):
        yield f"the {old.title} is {_OTHER_DATA}"
    else:
        yield f"{old.title} gives {_OTHER_DATA}"


def _number(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)
