//! Handmade packages for tests.

use std::path::{Path, PathBuf};

use oci::Digest;
use oci::layer::tar::{Entry, Kind, TarReader, TarWriter};

use crate::LockedPackage;

/// A tar of the entries given, with their contents.
pub(crate) fn tar(entries: &[(Entry, &[u8])]) -> Vec<u8> {
    let mut writer = TarWriter::new(Vec::new());
    for (entry, content) in entries {
        match entry.kind {
            Kind::File { .. } => writer.append_bytes(entry, content).unwrap(),
            _ => writer.append_empty(entry).unwrap(),
        }
    }
    writer.finish().unwrap()
}

/// An ar archive of the members given.
pub(crate) fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = b"!<arch>\n".to_vec();
    for (name, content) in members {
        archive.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, "100644", content.len()).bytes());
        archive.extend_from_slice(content);
        if content.len() % 2 == 1 {
            archive.push(b'\n');
        }
    }
    archive
}

/// A package to be made: its control fields, control files and contents.
pub(crate) struct Package<'a> {
    pub(crate) fields: &'a str,
    pub(crate) control: &'a [(&'a str, &'a str)],
    pub(crate) entries: Vec<(Entry, &'a [u8])>,
}

impl<'a> Package<'a> {
    /// A package of these fields (`Package`, `Version` and `Architecture` among them) and entries.
    pub(crate) fn new(fields: &'a str, entries: Vec<(Entry, &'a [u8])>) -> Self {
        Self { fields, control: &[], entries }
    }

    pub(crate) fn with_control(mut self, control: &'a [(&'a str, &'a str)]) -> Self {
        self.control = control;
        self
    }

    /// The `.deb`.
    pub(crate) fn deb(&self) -> Vec<u8> {
        let mut control = vec![(Entry::file("control", 0), self.fields.as_bytes())];
        control.extend(self.control.iter().map(|(name, text)| (Entry::file(*name, 0), text.as_bytes())));
        let members =
            [("debian-binary", &b"2.0\n"[..]), ("control.tar", &tar(&control)), ("data.tar", &tar(&self.entries))];
        ar(&members)
    }

    /// Writes the `.deb` into a directory and pins it.
    pub(crate) fn write(&self, directory: &Path) -> (LockedPackage, PathBuf) {
        let field = |name: &str| {
            let line = self.fields.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap().to_owned()
        };
        let (name, version, architecture) = (field("Package"), field("Version"), field("Architecture"));
        let bytes = self.deb();
        let path = directory.join(format!("{name}_{version}_{architecture}.deb"));
        std::fs::write(&path, &bytes).unwrap();
        let locked = LockedPackage {
            source: name.clone(),
            name,
            version,
            architecture,
            suite: "test".to_owned(),
            filename: path.display().to_string(),
            size: bytes.len() as u64,
            sha256: Digest::of(&bytes),
        };
        (locked, path)
    }
}

/// What a tar holds: entries with their contents, in order.
pub(crate) fn read_tar(bytes: &[u8]) -> Vec<(Entry, String)> {
    let mut reader = TarReader::new(bytes, oci::layer::tar::Limits::default());
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut content).unwrap();
        entries.push((entry, String::from_utf8_lossy(&content).into_owned()));
    }
    entries
}
