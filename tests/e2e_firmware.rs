//! Firmware: `tests/apps/esp-idf`, built as `language = "esp-idf"` builds, with a stand-in for ESP-IDF (its image can not
//! be had everywhere the tests run) and Espressif's own esptool.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use oci::Digest;
use serde_json::Value;
use support::Capability::{Archive, Network, Overlay, Root};
use support::{Built, Capability, Cli, Output, Suite, run};

const PROGRAM: &str = env!("CARGO_BIN_EXE_clawbuild");
const APP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apps/esp-idf");

const BUILD: &[Capability] = &[Root, Overlay, Archive, Network];

fn main() -> ExitCode {
    Suite::new()
        .test("every part is there, checked and joined", BUILD, every_part)
        .test("the same firmware again", BUILD, the_same_firmware_again)
        .test("a part that does not fit its partition is refused", BUILD, a_part_that_does_not_fit)
        .test("partitions that overlap are refused", BUILD, partitions_that_overlap)
        .test("a header with secrets is refused", BUILD, a_header_with_secrets)
        .test("firmware is not tested in a container", &[], not_in_a_container)
        .run()
}

/// The app in a directory of the test's own, its base where bases are looked for.
fn app() -> Cli {
    let cli = Cli::new(PROGRAM).with_shared_store();
    run("cp", ["-r".to_owned(), format!("{APP}/."), cli.directory().display().to_string()]);
    fs::rename(cli.directory().join("bases"), cli.directory().join("base")).expect("the app has its base");
    cli
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn every_part() {
    let cli = app();
    let files: PathBuf = cli.directory().join("firmware");
    cli.run(["./recipe.toml", "-o", &format!("type=local,dest={}", files.display())]).success();
    let flash: Value = serde_json::from_slice(&read(&files.join("flash.json"))).expect("JSON");
    assert_eq!((flash["chip"].as_str(), flash["version"].as_str()), (Some("esp32c3"), Some("0.1.0")));
    let merged = read(&files.join("claw-esp-full.bin"));
    let parts = flash["parts"].as_array().expect("parts");
    let mut places = Vec::new();
    for part in parts {
        let text = |key: &str| part[key].as_str().unwrap_or_else(|| panic!("{key} of {part}")).to_owned();
        let data = read(&files.join(text("file")));
        assert_eq!(Digest::of(&data).hex(), text("sha256"), "{part}");
        assert_eq!(Some(data.len() as u64), part["size"].as_u64());
        let offset = usize::from_str_radix(text("offset").trim_start_matches("0x"), 16).expect("an offset");
        assert_eq!(merged.get(offset..offset + data.len()), Some(&*data), "{part} in the merged image");
        places.push((text("name"), text("offset"), text("place")));
    }
    let place = |name: &str, offset: &str, place: &str| (name.to_owned(), offset.to_owned(), place.to_owned());
    assert_eq!(
        places,
        [
            place("bootloader", "0x0", "bootloader"),
            place("partition-table", "0x8000", "partition table"),
            place("otadata", "0xf000", "otadata"),
            place("app", "0x20000", "ota_0"),
        ]
    );
    assert_eq!(flash["merged"]["sha256"].as_str(), Some(Digest::of(&merged).hex()).as_deref());
    // Spec: ESP-IDF, "App Image Format" and gen_esp32part.py: the magic numbers of an image and of a partition.
    assert_eq!((merged[0], merged[0x20000], &merged[0x8000..0x8002]), (0xe9, 0xe9, &[0xaa, 0x50][..]));
    let mut names: Vec<_> =
        fs::read_dir(&files).expect("files").map(|entry| entry.expect("a file").file_name()).collect();
    names.sort();
    let expected = [
        "bootloader.bin",
        "claw-esp-full.bin",
        "claw_esp.bin",
        "flash.json",
        "ota_data_initial.bin",
        "partition-table.bin",
    ];
    assert_eq!(names, expected);
}

fn the_same_firmware_again() {
    let cli = app();
    let first = Built::of(cli.run(["./recipe.toml", "--json"]));
    assert_eq!(first.layers.len(), 1, "the image is its files and nothing else");
    let again = Built::of(cli.run(["./recipe.toml", "--json", "--no-cache"]));
    assert_eq!(again.digest, first.digest);
}

/// What a build says that fails.
#[track_caller]
fn refused(cli: &Cli, said: &str) {
    let Output { status, stderr, .. } = cli.run(["./recipe.toml"]);
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains(said), "{stderr}");
}

fn change(cli: &Cli, from: &str, to: &str) {
    let file = cli.directory().join("partitions.csv");
    let text = fs::read_to_string(&file).expect("the app has partitions");
    assert!(text.contains(from), "{text}");
    fs::write(file, text.replace(from, to)).expect("the directory is writable");
}

fn a_part_that_does_not_fit() {
    let cli = app();
    change(&cli, "0xf000,  8K", "0xf000,  4K");
    refused(&cli, "`ota_data_initial.bin` has 8192 bytes, its place `otadata` only 4096");
}

fn partitions_that_overlap() {
    let cli = app();
    change(&cli, "0x9000,  0x6000", "0x9000,  0x7000");
    refused(&cli, "partition `nvs` reaches to 0x10000, into `otadata` at 0xf000");
}

fn a_header_with_secrets() {
    let cli = app();
    fs::write(cli.directory().join("main/secrets.h"), "#define PASSWORD \"x\"\n").expect("the directory is writable");
    refused(&cli, "the source holds `main/secrets.h`");
}

fn not_in_a_container() {
    let Output { status, stderr, .. } = app().run(["test", "./recipe.toml"]);
    assert_eq!(status, Some(2), "{stderr}");
    assert!(stderr.contains("is firmware"), "{stderr}");
}
