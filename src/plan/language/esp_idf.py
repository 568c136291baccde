"""Collects what `idf.py build` made into /out: each part of the flash, all of them merged, and flash.json.

Spec: ESP-IDF's build/flasher_args.json; the partition table's CSV as ESP-IDF's API guide "Partition Tables" has it.
"""

import hashlib
import json
import pathlib
import re
import subprocess
import sys

CHIP, NAME, VERSION, PARTITIONS = sys.argv[1:]
BUILD, OUT = pathlib.Path("build"), pathlib.Path("/out")
TABLE_SIZE, SECTOR, APP_ALIGNMENT = 0x1000, 0x1000, 0x10000


def fail(message):
    sys.exit(f"{PARTITIONS}: {message}")


def number(text):
    """A size or an offset: decimal or 0x…, with K or M after it."""
    match = re.fullmatch(r"(0[xX][0-9a-fA-F]+|\d+)([KkMm]?)", text)
    if not match:
        fail(f"`{text}` is not a number")
    return int(match[1], 0) * {"": 1, "k": 1024, "m": 1024 * 1024}[match[2].lower()]


def partitions(text, first):
    """The partitions, each as (name, offset, size). Those without an offset follow the one before, aligned."""
    found, end = [], first
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("#")[0].split(",")]
        if fields == [""]:
            continue
        if len(fields) < 5:
            fail(f"`{line.strip()}` is not `name, type, subtype, offset, size`")
        name, kind, _, offset, size = fields[:5]
        alignment = APP_ALIGNMENT if kind in ("app", "0", "0x0", "0x00") else SECTOR
        offset = number(offset) if offset else -(-end // alignment) * alignment
        size = number(size)
        if offset % alignment:
            fail(f"partition `{name}` at {offset:#x} is not aligned to {alignment:#x}")
        if offset < first:
            fail(f"partition `{name}` at {offset:#x} lies on the partition table, which ends at {first:#x}")
        found.append((name, offset, size))
        end = offset + size
    found.sort(key=lambda partition: partition[1])
    for (one, start, size), (other, after, _) in zip(found, found[1:]):
        if start + size > after:
            fail(f"partition `{one}` reaches to {start + size:#x}, into `{other}` at {after:#x}")
    return found


flasher = json.loads((BUILD / "flasher_args.json").read_text())
settings = flasher["flash_settings"]
table_offset = int(flasher["partition-table"]["offset"], 0)
table = partitions(pathlib.Path(PARTITIONS).read_text(), table_offset + TABLE_SIZE)
flash = number(settings["flash_size"].removesuffix("B"))
for name, offset, size in table:
    if offset + size > flash:
        fail(f"partition `{name}` reaches to {offset + size:#x}, the flash only to {flash:#x}")

# What is no partition: the bootloader lies below the table.
places = {offset: (name, size) for name, offset, size in table}
places[table_offset] = ("partition table", TABLE_SIZE)
names = {int(part["offset"], 0): name for name, part in flasher.items() if isinstance(part, dict) and "offset" in part}
parts, taken = [], set()
OUT.mkdir(parents=True)
for text, file in sorted(flasher["flash_files"].items(), key=lambda item: int(item[0], 0)):
    offset, data = int(text, 0), (BUILD / file).read_bytes()
    place, room = places.get(offset) or ("bootloader", table_offset - offset)
    if offset not in places and offset > table_offset:
        fail(f"`{file}` goes to {offset:#x}, where no partition begins")
    if len(data) > room:
        fail(f"`{file}` has {len(data)} bytes, its place `{place}` only {room}")
    target = pathlib.Path(file).name
    if target in taken:
        fail(f"two parts are called `{target}`")
    taken.add(target)
    (OUT / target).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    part = {"name": names.get(offset, place), "file": target, "offset": f"{offset:#x}", "size": len(data)}
    parts.append(part | {"place": place, "room": room, "sha256": digest})

merged = f"{NAME}-full.bin"
command = [sys.executable, "-m", "esptool", "--chip", CHIP, "merge_bin", "-o", str(OUT / merged)]
for option in ("flash_mode", "flash_freq", "flash_size"):
    command += [f"--{option}", settings[option]]
for part in parts:
    command += [part["offset"], str(OUT / part["file"])]
subprocess.run(command, check=True)
data = (OUT / merged).read_bytes()
for part in parts[1:]:
    # esptool writes the flash's settings into the bootloader's header, and leaves everything else as it is.
    merged_part = data[int(part["offset"], 0) :][: part["size"]]
    if hashlib.sha256(merged_part).hexdigest() != part["sha256"]:
        fail(f"`{part['file']}` is not in the merged image as it is")
document = {
    "chip": CHIP,
    "version": VERSION,
    "flash": settings,
    "parts": parts,
    "merged": {"file": merged, "offset": "0x0", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()},
}
(OUT / "flash.json").write_text(json.dumps(document, indent=2) + "\n")
