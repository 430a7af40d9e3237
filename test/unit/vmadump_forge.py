#!/usr/bin/env python3
# An image as another machine would have made it: vmadump_forge.py clocks SECONDS IN OUT,
# vmadump_forge.py vdso BITS IN OUT, vmadump_forge.py machine NUMBER IN OUT; needing a feature of
# CPUID 80000001.ecx: vmadump_forge.py feature BIT IN OUT; having xsave component N in use:
# vmadump_forge.py component N IN OUT.
# Changes the first image in a file, and makes the sum of its head right again.
import struct
import sys


def notes(head):
    at, = struct.unpack_from("<Q", head, 72)
    end = at + struct.unpack_from("<Q", head, 96)[0]
    while end - at >= 12:
        name, desc, kind = struct.unpack_from("<III", head, at)
        data = at + 12 + (name + 3) // 4 * 4
        yield kind, at, data, desc
        at = data + (desc + 3) // 4 * 4


def note(head, kind):
    return next(n for n in notes(head) if n[0] == kind)


def record(head, tag):
    _, _, at, length = note(head, 0x564D0002)
    end = at + length
    while at < end:
        t, _, n = struct.unpack_from("<HHI", head, at)
        if t == tag:
            return at + 8, n
        at += 8 + (n + 7) // 8 * 8
    raise SystemExit("no record %d" % tag)


def resum(head):
    _, start, data, _ = note(head, 0x564D0003)
    total, mask = 0, (1 << 64) - 1
    padded = bytes(head[:start]) + bytes(-start % 8)
    for (word,) in struct.iter_unpack("<Q", padded):
        total = ((total ^ word) * 0x9E3779B97F4A7C15 & mask) ^ (total >> 29)
    struct.pack_into("<Q", head, data, total)


what, number, source, target = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
image = bytearray(open(source, "rb").read())
if what == "clocks":
    place, _ = record(image, 22)
    for clock in (place, place + 16):
        seconds, = struct.unpack_from("<Q", image, clock)
        struct.pack_into("<Q", image, clock, seconds + number)
elif what == "vdso":
    _, _, need, _ = note(image, 0x564D0001)
    value, = struct.unpack_from("<Q", image, need + 64)
    struct.pack_into("<Q", image, need + 64, value ^ number)
elif what == "feature":
    _, _, need, _ = note(image, 0x564D0001)
    value, = struct.unpack_from("<I", image, need + 56)
    struct.pack_into("<I", image, need + 56, value | 1 << number)
elif what == "component":
    _, _, need, _ = note(image, 0x564D0001)
    value, = struct.unpack_from("<Q", image, need + 24)
    struct.pack_into("<Q", image, need + 24, value | 1 << number)
elif what == "machine":
    struct.pack_into("<H", image, 18, number)
resum(image)
open(target, "wb").write(image)
