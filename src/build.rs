//! Puts the recipes, bases, keys and claw-init's source of this repository into the program, so that an installed
//! clawbuild works anywhere.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let mut files = Vec::new();
    for directory in ["base", "runtimes"] {
        println!("cargo:rerun-if-changed={directory}");
        collect(&root, &root.join(directory), &mut files);
    }
    if root.join("clawbuild.lock").is_file() {
        println!("cargo:rerun-if-changed=clawbuild.lock");
        files.push("clawbuild.lock".to_owned());
    }
    files.sort();
    let mut code = String::from("pub(super) const FILES: &[(&str, &[u8])] = &[\n");
    for file in &files {
        let path = root.join(file);
        writeln!(code, "    ({file:?}, include_bytes!({path:?})),").expect("writing to a String cannot fail");
    }
    code.push_str("];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("embedded.rs");
    fs::write(out, code).expect("the output directory is writable");
}

fn collect(root: &Path, directory: &Path, files: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, files);
        } else if let Ok(relative) = path.strip_prefix(root) {
            files.push(relative.to_string_lossy().into_owned());
        }
    }
}
