# SPDX-License-Identifier: GPL-2.0-or-later
"""A script in the shell's words: POSIX sh and QEMU's own programs, Python where it must be."""

from __future__ import annotations

import errno
import json
import os
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.lockstep.trace import SystemKind
from harness.reproducers.patterns import flights
from harness.reproducers.script import (
    OK,
    Act,
    Again,
    Ask,
    AskNbd,
    Bitmaps,
    Command,
    Digest,
    Disk,
    End,
    Jobs,
    Piece,
    Script,
)
from harness.storage.images import APPENDING, creation_options, growth
from harness.storage.luks import LUKS_PASSPHRASE, LUKS_SECRET
from model.configuration import Format, Protocol
from model.image import size_of

TEMPLATES: Final = Path(__file__).parent / "templates"
WIDTH: Final = 92


def environment() -> Environment:
    """Where templates are, and how they are filled in."""
    made = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined,
                       trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
                       autoescape=False)
    made.filters["indented"] = indented
    return made


def indented(lines: Sequence[str], columns: int = 8) -> str:
    """The lines as a text, each but empty ones after so many spaces."""
    return textwrap.indent("\n".join(lines), " " * columns)


def shell(script: Script, name: str) -> str:
    """The text of the file ``name``."""
    raw_server = any(disk.image.protocol is Protocol.NBD for disk in script.disks)
    return environment().get_template("shell.sh.j2").render(
        name=name, story=story(script), needs=needs(script),
        system=script.system is SystemKind.QEMU_SYSTEM, raw_server=raw_server,
        libnbd=script.has(AskNbd), client=(TEMPLATES / "client.py.j2").read_text().rstrip(),
        views=script.has(Bitmaps, Jobs), viewer=(TEMPLATES / "views.py.j2").read_text().rstrip(),
        digests=script.has(Digest), jobs=script.has(Jobs), again=script.has(Again, End),
        monitor=script.asks_monitor, qemu_io=script.has(Ask), operations=len(script.parts),
        waits_for_exports=any(isinstance(act, Command) and act.gone is not None
                              for part in script.parts for act in part.acts),
        body=list(_body(script, raw_server=raw_server)))


def story(script: Script) -> list[str]:
    """What the file is about, in lines."""
    return [*textwrap.wrap(f"QEMU {script.version} {script.summary}", WIDTH,
                           break_long_words=False)]


def needs(script: Script) -> list[str]:
    """The programs that the shell form needs, beside those that every Linux has."""
    qemu = ("qemu-system-x86_64" if script.system is SystemKind.QEMU_SYSTEM
            else "qemu-storage-daemon")
    found = [qemu, "qemu-img", "qemu-io"]
    if script.has(AskNbd):
        found.append("python3 with libnbd (Debian: python3-libnbd)")
    elif script.has(Bitmaps, Jobs):
        found.append("python3")
    return found


def error_text(number: int) -> str:
    """How qemu-io tells of an errno."""
    return "ok" if number == OK else os.strerror(number)


def _body(script: Script, *, raw_server: bool) -> Iterator[str]:
    for disk in script.disks:
        yield from disk_lines(disk)
    if raw_server:
        yield from _raw_server(script)
    if script.system is SystemKind.QEMU_SYSTEM:
        yield "truncate -s 64k bios"
    yield "start"
    for command in script.attach:
        yield from _act(command)
    for part in script.parts:
        yield ""
        if part.number == script.last:
            yield "last=yes"
        yield f"now={quote(f'operation {part.number} ({part.title})')}"
        for act in part.acts:
            yield from _act(act)


# Images


def disk_lines(disk: Disk) -> Iterator[str]:
    """Make an image file."""
    image, file = disk.image, quote(disk.file)
    if image.format is Format.RAW:
        yield f"truncate -s {image.size} {file}"
        if image.preallocation not in (None, "off") and image.size:
            yield f"fallocate -l {image.size} {file}"
        for flight in flights(disk.pieces):
            yield (f"{_bytes(flight)} |\n"
                   f"    dd of={file} seek={flight[0].start} oflag=seek_bytes iflag=fullblock "
                   "bs=64k conv=notrunc status=none")
        return
    options = creation_options(image)
    secret = ""
    opened = f"driver={image.format},file.driver=file,file.filename={disk.file}"
    zeroed = image.protocol is Protocol.NBD and image.format in APPENDING
    if image.format is Format.LUKS:
        secret = f"--object secret,id={LUKS_SECRET},data={LUKS_PASSPHRASE} "
        options += [f"key-secret={LUKS_SECRET}", "iter-time=10"]
        opened += f",key-secret={LUKS_SECRET}"
        zeroed = True
    chosen = f"-o {','.join(options)} " if options else ""
    yield (f"$QEMU_IMG create -q -f {image.format} {secret}{chosen}{file} {image.size} ||\n"
           f"    cannot 'no image {disk.file}'")
    pieces = (Piece(0, size_of(image), 0), *disk.pieces) if zeroed else disk.pieces
    if pieces:
        writes = " ".join(f"-c 'write -P {each.pattern} {each.start} {each.length}'"
                          for each in pieces)
        yield f"$QEMU_IO {secret}{writes} \\\n    --image-opts {quote(opened)} >/dev/null"
    if image.protocol is Protocol.NBD and image.format is Format.QCOW2:
        yield f"truncate -s +{growth(image)} {file}  # behind NBD a file does not grow"


def _bytes(flight: Sequence[Piece]) -> str:
    """A command that prints them."""
    piece = flight[0]
    if len(flight) == 1:
        return f"head -c {piece.length} /dev/zero | tr '\\0' '\\{piece.pattern:03o}'"
    return (f"for value in $(seq {piece.pattern} {flight[-1].pattern}); do\n"
            f"    head -c {piece.length} /dev/zero | tr '\\0' \"\\\\$(printf %o $value)\"\n"
            "done")


def _raw_server(script: Script) -> Iterator[str]:
    """Another storage daemon serves the bytes of images that are reached through NBD."""
    words = ["--nbd-server addr.type=unix,addr.path=raw.sock"]
    for disk in script.disks:
        if disk.image.protocol is Protocol.NBD:
            node = disk.image.node
            words += [f"--blockdev file,node-name={node},filename={disk.file},discard=unmap",
                      f"--export nbd,id={node},node-name={node},name={node},writable=on"]
    daemon = "$QSD" if script.system is SystemKind.QEMU_SYSTEM else "$QEMU"
    yield f"{daemon} --pidfile raw.pid --daemonize \\\n    " + " \\\n    ".join(words)


# Acts


def _act(act: Act) -> Iterator[str]:
    match act:
        case Command():
            yield _command(act)
            if act.gone is not None:
                yield f"removed {act.gone}"
        case Ask(monitor=str(prefix)):
            spoken = " ".join(quote(f'{prefix} \\"{each}\\"') for each in act.commands)
            yield f"monitored {quote(error_text(act.errno))} {spoken}"
        case Ask():
            options = "''" if act.writable else "-r"
            yield " ".join(["ask", act.node, quote(error_text(act.errno)), options,
                            *map(quote, act.commands)])
        case AskNbd():
            yield _nbd(act)
        case Bitmaps(node, lines):
            command = _json("query-named-block-nodes", {"flat": True})
            yield f"seen {quote(', '.join(lines) or 'none')} {command} bitmaps {node}"
        case Digest(node, name, sha256):
            command = _json("x-debug-block-dirty-bitmap-sha256", {"node": node, "name": name})
            yield f"digest {sha256} {command}"
        case Jobs(lines):
            yield f"rested {quote(', '.join(lines) or 'none')}"
        case End():
            yield from ("stop QUIT", "say 'AS EXPECTED'", "exit 0")
        case Again():
            yield f"stop {'KILL' if act.kill else 'QUIT'}"
            yield "start"
            for each in act.attach:
                yield _command(each)


def _command(act: Command) -> str:
    refusal = act.refusal or ""
    expected = "*" if act.refusal == "" else json.dumps(refusal)[1:-1]
    return f"tell {quote(expected)} {_json(act.name, act.arguments)}"


def _json(name: str, arguments: dict[str, object]) -> str:
    return quote(json.dumps({"execute": name} | ({"arguments": arguments} if arguments else {})))


def _nbd(act: AskNbd) -> str:
    if act.errno is None:
        expected = "hang-up"
    else:
        expected = errno.errorcode[act.errno] if act.errno else "ok"
    context = act.context or ("structured" if act.structured else "simple")
    items = [f"{piece.start}:{piece.length}:{piece.pattern}" for piece in act.pieces]
    items += [f"{run.length}:{'|'.join(map(str, run.allowed))}" for run in act.runs]
    return " ".join(["nbd", expected, act.node, quote(context), act.verb, str(act.offset),
                     str(act.length), quote(",".join(act.flags)), *map(quote, items)])
