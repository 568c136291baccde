#!/usr/bin/env python3
"""A stand-in for ESP-IDF's idf.py, for tests: `set-target` and `build`, and what the build leaves behind."""

import hashlib
import json
import pathlib
import struct
import subprocess
import sys

HERE, BUILD = pathlib.Path(__file__).parent, pathlib.Path("build")
TYPES = {"app": 0, "data": 1}
SUBTYPES = {"ota_0": 0x10, "ota_1": 0x11, "ota": 0x00, "nvs": 0x02, "spiffs": 0x82}
FLASH = {"flash_mode": "dio", "flash_size": "4MB", "flash_freq": "80m"}


def number(text):
    scale = {"K": 1024, "M": 1024 * 1024}.get(text[-1:], 1)
    return int(text.rstrip("KM"), 0) * scale


def set_target(chip, options):
    files = dict(option.split("=", 1) for option in options)["SDKCONFIG_DEFAULTS"].split(";")
    settings = [line for file in files for line in pathlib.Path(file).read_text().split()]
    pathlib.Path("sdkconfig").write_text("".join(f"{line}\n" for line in [f'CONFIG_IDF_TARGET="{chip}"', *settings]))
    subprocess.run(["cmake", "-G", "Ninja", "-S", ".", "-B", str(BUILD), *(f"-D{option}" for option in options)], check=True)


def esptool(elf, image):
    command = ["elf2image", "--flash_mode", "dio", "--flash_freq", "80m", "--flash_size", "4MB", "-o", str(image), str(elf)]
    subprocess.run([sys.executable, "-m", "esptool", "--chip", "esp32c3", *command], check=True)


def partition_table():
    """Spec: ESP-IDF's gen_esp32part.py."""
    entries, end = b"", 0x9000
    for line in pathlib.Path("partitions.csv").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, kind, subtype, offset, size = [field.strip() for field in line.split(",")][:5]
        alignment = 0x10000 if kind == "app" else 0x1000
        offset = number(offset) if offset else -(-end // alignment) * alignment
        fields = (TYPES[kind], SUBTYPES[subtype], offset, number(size), name.encode(), 0)
        entries += b"\xaa\x50" + struct.pack("<BBLL16sL", *fields)
        end = offset + number(size)
    entries += b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(entries).digest()
    return entries.ljust(0xC00, b"\xff")


def build():
    subprocess.run(["cmake", "--build", str(BUILD)], check=True)
    parts = {
        "bootloader": ("0x0", "bootloader/bootloader.bin"),
        "partition-table": ("0x8000", "partition_table/partition-table.bin"),
        "otadata": ("0xf000", "ota_data_initial.bin"),
        "app": ("0x20000", "claw_esp.bin"),
    }
    for _, file in parts.values():
        (BUILD / file).parent.mkdir(exist_ok=True)
    esptool(BUILD / "bootloader.elf", BUILD / parts["bootloader"][1])
    esptool(BUILD / "claw_esp.elf", BUILD / parts["app"][1])
    (BUILD / parts["partition-table"][1]).write_bytes(partition_table())
    (BUILD / parts["otadata"][1]).write_bytes(b"\xff" * 0x2000)
    document = {
        "write_flash_args": [word for name, value in FLASH.items() for word in (f"--{name}", value)],
        "flash_settings": FLASH,
        "flash_files": {offset: file for offset, file in parts.values()},
        **{name: {"offset": offset, "file": file, "encrypted": "false"} for name, (offset, file) in parts.items()},
        "extra_esptool_args": {"after": "hard_reset", "before": "default_reset", "stub": True, "chip": "esp32c3"},
    }
    (BUILD / "flasher_args.json").write_text(json.dumps(document))


arguments = sys.argv[1:]
options = [word[2:] for word in arguments if word.startswith("-D")]
match [word for word in arguments if not word.startswith("-D")]:
    case ["set-target", chip]:
        set_target(chip, options)
    case ["build"]:
        build()
    case words:
        sys.exit(f"idf.py: the stand-in does not know {words}")
