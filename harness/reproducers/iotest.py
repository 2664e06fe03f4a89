# SPDX-License-Identifier: GPL-2.0-or-later
"""A script as a test of QEMU's own: two files for ``tests/qemu-iotests/tests`` of a QEMU tree."""

from __future__ import annotations

import errno
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from harness.lockstep.trace import SystemKind
from harness.reproducers.compile import RAW_SOCKET, SOCKET, NoReproducer
from harness.reproducers.patterns import flights
from harness.reproducers.python_source import WIDTH, Name, call
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
    Script,
)
from harness.reproducers.shell import environment, error_text
from harness.storage.images import creation_options
from model.configuration import Format, Protocol

OUTPUT: Final = f".\n{'-' * 70}\nRan 1 tests\n\nOK\n"
"""What the test prints when QEMU does as expected: the file with ``.out`` at its end."""
_INDENT: Final = 8
_VERBS: Final = {"read": "pread", "write": "pwrite", "zero": "zero", "trim": "trim",
                 "flush": "flush"}


def iotest(script: Script) -> str:
    """The text of the test; raises :class:`NoReproducer`."""
    _check(script)
    files = {disk.file: Name(f"{disk.image.node}_img") for disk in script.disks}
    speaker = _Speaker(files)
    return environment().get_template("iotest.j2").render(
        story=_story(script), files=[(name, file) for file, name in files.items()],
        images=[line for disk in script.disks for line in speaker.disk(disk)],
        attach=[line for command in script.attach for line in speaker.act(command)],
        body=list(speaker.body(script)), raw_server=list(speaker.raw_server(script)),
        system=script.system is SystemKind.QEMU_SYSTEM, monitor=script.asks_monitor,
        qemu_img=any(disk.image.format is not Format.RAW for disk in script.disks),
        qemu_io=any(isinstance(act, Ask) and act.monitor is None for act in _acts(script)),
        libnbd=script.has(AskNbd), statuses=any(
            isinstance(act, AskNbd) and act.verb == "status" for act in _acts(script)),
        refused=any(isinstance(act, Command) and act.refusal is not None
                    for act in _acts(script)),
        waits_for_exports=any(isinstance(act, Command) and act.gone is not None
                              for act in _acts(script)),
        bitmaps=script.has(Bitmaps), jobs=script.has(Jobs), again=script.has(Again),
        operations=len(script.parts),
        format=_format(script), required=_required(script))


def _acts(script: Script) -> Iterator[Act]:
    return (act for part in script.parts for act in part.acts)


def _check(script: Script) -> None:
    if any((disk.image.protocol is Protocol.NBD and disk.image.format is not Format.RAW)
           or disk.image.format is Format.LUKS for disk in script.disks):
        raise NoReproducer("no iotest for LUKS images, and for formats over NBD: see the shell's")
    if script.has(End):
        raise NoReproducer("no iotest of how QEMU ends: see the shell's")
    if script.asks_monitor and script.has(Again):
        raise NoReproducer("no iotest where the human monitor's QEMU is restarted: see the "
                           "shell's")


def _story(script: Script) -> list[str]:
    return textwrap.wrap(f"QEMU {script.version} {script.summary}", WIDTH - 2,
                         break_long_words=False)


def _format(script: Script) -> str:
    formats = [disk.image.format.value for disk in script.disks]
    return next((each for each in formats if each != "raw"), "raw")


def _required(script: Script) -> str:
    drivers = [str(act.arguments.get("driver")) for act in (*script.attach, *_acts(script))
               if isinstance(act, Command) and act.name == "blockdev-add"]
    needed = [each for each in ("copy-before-write", "snapshot-access", "blkdebug")
              if each in drivers]
    lines = textwrap.wrap(", ".join(map(repr, needed)), WIDTH - 34)
    return ("\n" + " " * 32).join(lines)


class _Speaker:
    """Writes acts as lines of the test's methods, not indented."""

    def __init__(self, files: dict[str, Name]) -> None:
        """``files``: the name of the variable that holds each file's path."""
        self._names = {SOCKET: Name("nbd_sock"), RAW_SOCKET: Name("raw_sock"), **files}

    def body(self, script: Script) -> Iterator[str]:
        """All parts."""
        for part in script.parts:
            yield from textwrap.wrap(f"{part.number}: {part.title}", WIDTH - _INDENT - 2,
                                     initial_indent="# ", subsequent_indent="# ")
            for act in part.acts:
                yield from self.act(act)
            yield ""

    def disk(self, disk: Disk) -> Iterator[str]:
        """Make an image file."""
        image, name = disk.image, self._names[disk.file]
        opened = ["-f", image.format.value]
        if image.format is Format.RAW:
            yield f"with open({name}, 'wb') as file:"
            yield f"    file.truncate({image.size})"
            if image.preallocation not in (None, "off") and image.size:
                yield f"    os.posix_fallocate(file.fileno(), 0, {image.size})"
            for flight in flights(disk.pieces):
                first, last = flight[0], flight[-1]
                yield f"    file.seek({first.start})"
                if first is last:
                    yield f"    file.write(bytes([{first.pattern}]) * {first.length})"
                else:
                    yield f"    for value in range({first.pattern}, {last.pattern + 1}):"
                    yield f"        file.write(bytes([value]) * {first.length})"
            return
        options = creation_options(image)
        chosen = ["-o", ",".join(options)] if options else []
        yield from call("qemu_img_create", [*opened, *chosen, name, str(image.size)], _INDENT)
        if disk.pieces:
            writes = [word for each in disk.pieces
                      for word in ("-c", f"write -P {each.pattern} {each.start} {each.length}")]
            yield from call("iotests.qemu_io", [*opened, *writes, name], _INDENT)

    def raw_server(self, script: Script) -> Iterator[str]:
        """Arguments of the daemon that serves images behind NBD; none if there is no such."""
        served = [disk for disk in script.disks if disk.image.protocol is Protocol.NBD]
        if served:
            yield "'--nbd-server', 'addr.type=unix,addr.path=' + raw_sock,"
        for disk in served:
            node = disk.image.node
            yield f"'--blockdev', 'file,node-name={node},discard=unmap,filename='"
            yield f"+ {self._names[disk.file]},"
            yield f"'--export', 'nbd,id={node},node-name={node},writable=on,name={node}',"
        if served:
            yield "instance_id='raw',"

    def act(self, act: Act) -> Iterator[str]:
        """One act."""
        match act:
            case Command():
                yield from self._command(act)
                if act.gone is not None:
                    yield f"self.removed({act.gone!r})"
            case Ask(monitor=str(prefix)):
                spoken = [f'{prefix} "{each}"' for each in act.commands]
                yield from call("self.monitored", [error_text(act.errno), *spoken], _INDENT)
            case Ask():
                named: dict[str, object] = {} if act.writable else {"read_only": True}
                yield from call("self.ask", [act.node, error_text(act.errno), *act.commands],
                                _INDENT, named)
            case AskNbd():
                yield from self._nbd(act)
            case Bitmaps(node, lines):
                yield from call("self.assertEqual",
                                [Name(f"self.bitmaps({node!r})"), list(lines)], _INDENT)
            case Digest(node, name, sha256):
                yield from call("digest = self.accepted", [
                    "x-debug-block-dirty-bitmap-sha256", {"node": node, "name": name}], _INDENT)
                yield "self.assertEqual("
                yield "    digest['sha256'],"
                yield f"    '{sha256[:32]}'"
                yield f"    '{sha256[32:]}')"
            case Jobs(lines):
                yield from call("self.rested", [list(lines)], _INDENT)
            case Again():
                yield f"self.stop(kill={act.kill})"
                yield "self.start()"

    def _command(self, act: Command) -> Iterator[str]:
        arguments: list[object] = [act.name]
        if act.arguments:
            arguments.append(self._named(act.arguments))
        if act.refusal is None:
            yield from call("self.accepted", arguments, _INDENT)
        else:
            yield from call("self.refused", [act.refusal or None, *arguments], _INDENT)

    def _named(self, value: Any) -> Any:
        """The value with variables in place of paths."""
        if isinstance(value, dict):
            return {key: self._named(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self._named(each) for each in value]
        return self._names.get(value, value) if isinstance(value, str) else value

    def _nbd(self, act: AskNbd) -> Iterator[str]:
        flags = Name(" | ".join(f"nbd.CMD_FLAG_{each}" for each in act.flags) or "0")
        wanted = (Name("0") if act.errno is None else None if act.errno == OK
                  else Name(f"errno.{errno.errorcode[act.errno]}"))
        if act.verb == "status":
            runs = [(run.length, run.allowed) for run in act.runs]
            yield from call("self.status", [act.node, wanted, (act.length, act.offset), flags],
                            _INDENT, {"context": act.context, "expected": runs})
            return
        place: list[object] = [act.length, act.offset, flags]
        if act.verb == "flush":
            place = []
        elif act.verb == "write":
            data = " + ".join(f"bytes([{each.pattern}]) * {each.length}" for each in act.pieces)
            place = [Name(data or "b''"), act.offset, flags]
        named: dict[str, object] = {} if act.structured else {"context": "simple"}
        checks = act.verb == "read" and act.errno == OK
        function = "data = self.nbd_ask" if checks and act.pieces else "self.nbd_ask"
        yield from call(function, [act.node, wanted, _VERBS[act.verb], *place], _INDENT, named)
        for piece in act.pieces if checks else ():
            start, end = piece.start - act.offset, piece.end - act.offset
            yield "self.assertTrue("
            yield f"    data[{start}:{end}]"
            yield f"    == bytes([{piece.pattern}]) * {piece.length})"
