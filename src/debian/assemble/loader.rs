//! `/etc/ld.so.cache`: where the dynamic loader finds libraries, as ldconfig would write it.
//!
//! The format is glibc's newer one ("glibc-ld.so.cache1.1"), for little-endian 64-bit machines. The loader works
//! without a cache, and looks into its own directories for what the cache lacks.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use globset::GlobBuilder;
use serde::{Deserialize, Serialize};

use super::elf;
use super::error::AssembleError;
use super::path::TreePath;
use super::tree::{Node, NodeKind, Ownership, Tree};

/// One line of the cache.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Library {
    /// What programs ask for.
    name: String,
    /// The position of its directory in the search order, and its path.
    directory: u32,
    path: String,
}

/// What differs between machines.
#[derive(Clone, Copy)]
struct Machine {
    /// `e_machine` of its ELF files.
    elf: u16,
    /// What the cache calls libraries for it: an ELF library of the C library's sixth major version, and the ABI.
    flags: u32,
}

impl Machine {
    fn of(architecture: &str) -> Option<Self> {
        Some(match architecture {
            "amd64" => Self { elf: 62, flags: 0x0303 },
            "arm64" => Self { elf: 183, flags: 0x0a03 },
            "riscv64" => Self { elf: 243, flags: 0x1003 },
            _ => return None,
        })
    }
}

const CONFIGURATION: &str = "etc/ld.so.conf";
const FRAGMENTS: &str = "etc/ld.so.conf.d";
const CACHE: &str = "etc/ld.so.cache";
/// Searched after the configured ones.
const BUILT_IN: [&str; 2] = ["/lib", "/usr/lib"];

/// Writes the cache where this layer brings libraries. `libraries` and `texts` are what the layers below had.
pub(super) fn set_up(
    tree: &mut Tree<'_>,
    architecture: &str,
    texts: &mut BTreeMap<String, String>,
    libraries: &mut Vec<Library>,
) -> Result<(), AssembleError> {
    let Some(machine) = Machine::of(architecture) else { return Ok(()) };
    remember_configuration(tree, texts)?;
    let before = libraries.clone();
    for (position, directory) in (0..).zip(search_directories(tree, texts)) {
        for (name, path) in libraries_in(tree, &directory, machine)? {
            if !libraries.iter().any(|known| known.path == path) {
                libraries.push(Library { name, directory: position, path });
            }
        }
    }
    if *libraries != before {
        libraries.sort();
        tree.put_file(CACHE, encode(libraries, machine), Ownership::root(0o644));
    }
    Ok(())
}

/// Keeps the configuration's files for later layers, and takes over those of the layers below.
fn remember_configuration(tree: &mut Tree<'_>, texts: &mut BTreeMap<String, String>) -> Result<(), AssembleError> {
    let fragments = TreePath::from(FRAGMENTS);
    let mut paths: Vec<String> = tree.below_directory(&fragments).map(|(path, _)| path.as_str().to_owned()).collect();
    paths.push(CONFIGURATION.to_owned());
    for path in paths {
        if let Some(text) = tree.read_text(&path)? {
            texts.insert(path, text);
        }
    }
    Ok(())
}

/// The directories to search, in order, each once however it is reached.
fn search_directories(tree: &mut Tree<'_>, texts: &BTreeMap<String, String>) -> Vec<String> {
    let mut directories = Vec::new();
    // Without libc-bin there is no main file; the fragments that libc6 and others ship count all the same.
    let default = format!("include /{FRAGMENTS}/*.conf");
    read_configuration(texts.get(CONFIGURATION).unwrap_or(&default), texts, &mut directories, 0);
    directories.extend(BUILT_IN.map(str::to_owned));
    let mut seen = Vec::new();
    directories.retain(|directory| {
        let place = tree.resolve(&directory.as_str().into());
        let new = !seen.contains(&place);
        seen.push(place);
        new
    });
    directories
}

fn read_configuration(text: &str, texts: &BTreeMap<String, String>, directories: &mut Vec<String>, depth: u32) {
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(pattern) = line.strip_prefix("include ").filter(|_| depth < 4) {
            let pattern = pattern.trim().trim_start_matches('/');
            let Ok(glob) = GlobBuilder::new(pattern).literal_separator(true).build() else { continue };
            let matcher = glob.compile_matcher();
            for (_, text) in texts.iter().filter(|(path, _)| matcher.is_match(path)) {
                read_configuration(text, texts, directories, depth + 1);
            }
        } else if line.starts_with('/') {
            directories.push(line.trim_end_matches('/').to_owned());
        }
    }
}

/// Libraries of this layer directly in a directory: their names and paths.
fn libraries_in(
    tree: &mut Tree<'_>,
    directory: &str,
    machine: Machine,
) -> Result<Vec<(String, String)>, AssembleError> {
    let place = tree.resolve(&directory.into());
    let is_library = |(path, node): &(&TreePath, &Node)| {
        let name = path.name();
        path.parent() == place
            && node.kind != NodeKind::Directory
            && (name.starts_with("lib") || name.starts_with("ld-"))
            && name.contains(".so")
    };
    let files: Vec<TreePath> = tree.below_directory(&place).filter(is_library).map(|(path, _)| path.clone()).collect();
    let mut found = BTreeMap::new();
    for file in files {
        let spools = tree.spools;
        let Some((content, _)) = tree.file(file.as_str()) else { continue };
        let object = elf::shared_object(&|at, buf: &mut [u8]| content.read_at(spools, at, buf))
            .map_err(AssembleError::io("read the spooled file", file.as_str()))?;
        let Some(object) = object.filter(|object| object.machine == machine.elf) else { continue };
        let soname = object.soname.unwrap_or_else(|| file.name().to_owned());
        // A library is found under its own name, which packages ship as a link where it is not the file's; and under
        // the name of the link for the linker, `libx.so` to `libx.so.1`.
        let is_link = tree.links.contains_key(&file);
        let for_linker = is_link && file.name().ends_with(".so") && soname.starts_with(file.name());
        let name = if for_linker { file.name().to_owned() } else { soname };
        let named = place.join(&name);
        if tree.exists(named.as_str()) {
            found.insert(name.clone(), format!("{directory}/{name}"));
        }
    }
    Ok(found.into_iter().collect())
}

fn encode(libraries: &[Library], machine: Machine) -> Vec<u8> {
    let mut sorted: Vec<&Library> = libraries.iter().collect();
    // The loader searches by halving, from the greatest name down.
    sorted.sort_by(|a, b| compare_names(&b.name, &a.name).then_with(|| a.directory.cmp(&b.directory)));
    let narrow = |n: usize| u32::try_from(n).expect("the cache is far below 4 GiB");
    let (header, entry) = (48, 24);
    let first_string = header + entry * sorted.len();
    let (mut entries, mut strings) = (Vec::new(), Vec::new());
    for library in &sorted {
        let value = narrow(first_string + strings.len());
        // The name is the end of the path.
        let key = value + narrow(library.path.len() - library.name.len());
        strings.extend_from_slice(library.path.as_bytes());
        strings.push(0);
        for number in [machine.flags, key, value, 0, 0, 0] {
            entries.extend(number.to_le_bytes());
        }
    }
    let mut cache = b"glibc-ld.so.cache1.1".to_vec();
    for number in [narrow(sorted.len()), narrow(strings.len())] {
        cache.extend(number.to_le_bytes());
    }
    // Little-endian; no extensions; unused.
    cache.extend([2, 0, 0, 0]);
    cache.extend([0; 16]);
    cache.extend(entries);
    cache.extend(strings);
    cache
}

/// The order the loader relies on: byte by byte, runs of digits as numbers, digits after everything else.
fn compare_names(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        match (a.first(), b.first()) {
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                let number = |bytes: &mut &[u8]| {
                    let length = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
                    let (digits, rest) = bytes.split_at(length);
                    *bytes = rest;
                    digits.iter().fold(0_u64, |n, digit| n.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
                };
                let order = number(&mut a).cmp(&number(&mut b));
                if order.is_ne() {
                    return order;
                }
            }
            (Some(x), _) if x.is_ascii_digit() => return Ordering::Greater,
            (_, Some(y)) if y.is_ascii_digit() => return Ordering::Less,
            (Some(x), Some(y)) if x == y => (a, b) = (&a[1..], &b[1..]),
            (x, y) => return x.copied().unwrap_or(0).cmp(&y.copied().unwrap_or(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_the_loader_searches() {
        let order = |a, b| compare_names(a, b);
        assert_eq!(order("libc.so.6", "libc.so.6"), Ordering::Equal);
        assert_eq!(order("libx.so.10", "libx.so.9"), Ordering::Greater);
        assert_eq!(order("libdb-5.3.so", "libdb.so"), Ordering::Less);
        assert_eq!(order("libz.so.1", "libzstd.so.1"), Ordering::Less);
        assert_eq!(order("libpcre2-8.so.0", "libpcre2.so"), Ordering::Less);
        assert_eq!(order("lib1", "liba"), Ordering::Greater);
        assert_eq!(order("lib", "lib1"), Ordering::Less);
    }

    /// The machine's own ldconfig reads what we write.
    #[test]
    fn ldconfig_reads_it() {
        let machine = Machine::of("amd64").unwrap();
        let library = |name: &str, directory, place: &str| Library {
            name: name.to_owned(),
            directory,
            path: format!("{place}/{name}"),
        };
        let libraries = [
            library("libz.so.1", 1, "/lib/x86_64-linux-gnu"),
            library("libz.so.1", 0, "/usr/local/lib"),
            library("libc.so.6", 1, "/lib/x86_64-linux-gnu"),
        ];
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), encode(&libraries, machine)).unwrap();
        let output =
            std::process::Command::new("/sbin/ldconfig").arg("-p").arg("-C").arg(file.path()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let paths: Vec<&str> =
            text.lines().filter_map(|line| line.split_once("(libc6,x86-64) => ")).map(|(_, path)| path).collect();
        assert_eq!(
            paths,
            ["/usr/local/lib/libz.so.1", "/lib/x86_64-linux-gnu/libz.so.1", "/lib/x86_64-linux-gnu/libc.so.6"],
            "{text}"
        );
    }
}
