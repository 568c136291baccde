//! A base image made of programs of this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;

use oci::layer::compress::{Compression, LayerBlob, LayerWriter};
use oci::layer::tar::{Entry, TarWriter};
use oci::{Digest, Document as _, ImageConfig, Manifest, Os, Platform, RootFs, media_type};

/// Programs the base has.
const PROGRAMS: [&str; 15] =
    ["sh", "cat", "chmod", "chown", "cp", "echo", "head", "ln", "ls", "mkdir", "mv", "rm", "sleep", "stat", "touch"];

/// Whether a layer has an entry for every directory its files are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parents {
    #[allow(dead_code, reason = "other tests take the other")]
    Written,
    Implied,
}

/// Writes an OCI layout with an image of this machine's programs; gives its manifest.
pub(crate) fn write_base(root: &Path, parents: Parents) -> Digest {
    let blobs = root.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("a layout");
    let put = |bytes: &[u8]| fs::write(blobs.join(Digest::of(bytes).hex()), bytes).expect("a blob");
    let layers = [programs(), accounts(parents)];
    for (bytes, _) in &layers {
        put(bytes);
    }
    let platform = Platform::host().expect("a known platform");
    let config = ImageConfig {
        created: None,
        author: None,
        architecture: platform.architecture,
        os: Os::Linux,
        config: Default::default(),
        rootfs: RootFs::new(layers.iter().map(|(_, blob)| blob.diff_id).collect()),
        history: Vec::new(),
    };
    let manifest = Manifest::new(config.descriptor(), layers.into_iter().map(|(_, blob)| blob.descriptor).collect());
    assert_eq!(manifest.descriptor().media_type, media_type::MANIFEST);
    put(&config.to_bytes());
    put(&manifest.to_bytes());
    manifest.descriptor().digest
}

fn archive(fill: impl FnOnce(&mut TarWriter<LayerWriter<Vec<u8>>>)) -> (Vec<u8>, LayerBlob) {
    let mut tar = TarWriter::new(LayerWriter::new(Vec::new(), Compression::Gzip, NonZeroUsize::MIN));
    fill(&mut tar);
    let (blob, bytes) = tar.finish().expect("an archive").finish().expect("a blob");
    (bytes, blob)
}

fn programs() -> (Vec<u8>, LayerBlob) {
    let mut files: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    for program in PROGRAMS {
        let path = ["/bin", "/usr/bin"].map(|directory| Path::new(directory).join(program));
        let path = path.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("no {program} here"));
        for library in libraries(&path) {
            files.insert(library.strip_prefix("/").expect("absolute").to_owned(), library);
        }
        files.insert(Path::new("bin").join(program), path);
    }
    archive(|tar| {
        let mut directories: BTreeSet<PathBuf> = ["tmp", "dev", "proc", "sys", "etc"].map(PathBuf::from).into();
        directories.extend(files.keys().flat_map(|path| path.ancestors().skip(1).map(Path::to_owned)));
        for directory in directories.iter().filter(|path| **path != Path::new("")) {
            let mode = if directory == Path::new("tmp") { 0o1777 } else { 0o755 };
            let path = directory.as_os_str().as_encoded_bytes();
            tar.append_empty(&Entry::directory(path).with_mode(mode)).expect("a directory");
        }
        for (path, from) in &files {
            let size = fs::metadata(from).expect("a file").len();
            let entry = Entry::file(path.as_os_str().as_encoded_bytes(), size).with_mode(0o755);
            tar.append(&entry, &mut File::open(from).expect("a file")).expect("a file");
        }
    })
}

/// A second layer.
fn accounts(parents: Parents) -> (Vec<u8>, LayerBlob) {
    let text = "root:x:0:0:root:/root:/bin/sh\napp:x:1001:1002::/home/app:/bin/sh\n";
    archive(|tar| {
        if parents == Parents::Written {
            tar.append_empty(&Entry::directory("etc")).expect("a directory");
        }
        tar.append(&Entry::file(&b"etc/passwd"[..], text.len() as u64), &mut text.as_bytes()).expect("a file");
    })
}

/// The libraries a program of this machine is linked to.
pub(crate) fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}
