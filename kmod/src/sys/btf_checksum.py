# SPDX-License-Identifier: GPL-2.0
"""Prints a C header with the CRC-32 of the .BTF section of an ELF file, 0 if there is no such section."""

import struct
import sys
import zlib

with open(sys.argv[1], "rb") as file:
    elf = file.read()

# The ELF64 header: e_shoff at 40; e_shentsize, e_shnum, e_shstrndx at 58.
(table,) = struct.unpack_from("<Q", elf, 40)
size, count, names = struct.unpack_from("<HHH", elf, 58)


def section(index):
    """Name (an offset), file offset and size of a section."""
    name, _type, _flags, _address, offset, length = struct.unpack_from("<IIQQQQ", elf, table + index * size)
    return name, offset, length


checksum = 0
_, strings, _ = section(names)
for index in range(count):
    name, offset, length = section(index)
    if elf[strings + name :].startswith(b".BTF\0"):
        checksum = zlib.crc32(elf[offset : offset + length])
print(f"#define PMIG_BTF_CHECKSUM {checksum:#x}U")
