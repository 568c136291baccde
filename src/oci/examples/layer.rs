//! Layers by hand, for measurements and for comparing with other programs:
//!
//! ```text
//! layer compress gzip|zstd|none THREADS < TAR > BLOB
//! layer diff EPOCH|- UPPER LOWER… > TAR            snapshots, as directories that hold `fs`; LOWER topmost last
//! layer export gzip|zstd|none THREADS UPPER LOWER… > BLOB
//! layer unpack real|recorded SNAPSHOT LOWER… < BLOB
//! layer image NAME BLOB DIRECTORY ARCHIVE          a one-layer image of a gzip blob, as layout and for `docker load`
//! layer validate LAYOUT
//! ```
//! What was made, how long it took and the peak memory go to standard error.

#![expect(clippy::print_stderr, reason = "a program for people, not part of the library")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use oci::layer::Snapshot;
use oci::layer::apply::{self, OverlayXattrs};
use oci::layer::compress::{Compression, Decompressor, LayerWriter};
use oci::layer::diff;
use oci::layer::ownership::Ownership;
use oci::layer::tar::{Limits, TarWriter};
use oci::layout::{BlobSource, Form, Images, Layout, Named, validate};
use oci::{
    ContainerConfig, Descriptor, DiffId, Digest, Document as _, ImageConfig, Manifest, Platform, RootFs, media_type,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let started = Instant::now();
    let result = match &arguments[..] {
        ["compress", compression, threads] => {
            let mut writer = LayerWriter::new(io::stdout(), parse(compression)?, threads.parse::<NonZeroUsize>()?);
            io::copy(&mut BufReader::with_capacity(1 << 20, io::stdin()), &mut writer)?;
            format!("{:?}", writer.finish()?.0)
        }
        ["diff", epoch, upper, lower @ ..] => {
            let epoch = if *epoch == "-" { None } else { Some(epoch.parse()?) };
            let mut tar = TarWriter::new(io::BufWriter::with_capacity(1 << 20, io::stdout()));
            let entries = diff::write_layer(&snapshots(lower), &Snapshot::at(*upper), epoch, &mut tar)?;
            tar.finish()?.into_inner()?;
            format!("{entries} entries")
        }
        ["export", compression, threads, upper, lower @ ..] => {
            let (upper, lower, threads) = (Snapshot::at(*upper), snapshots(lower), threads.parse()?);
            let (layer, _) = diff::export(&lower, &upper, None, parse(compression)?, threads, io::stdout())?;
            format!("{layer:?}")
        }
        ["unpack", ownership, snapshot, lower @ ..] => {
            let (ownership, overlay) = match *ownership {
                "real" => (Ownership::Real, OverlayXattrs::Trusted),
                _ => (Ownership::Recorded, OverlayXattrs::User),
            };
            let lower = snapshots(lower);
            let options = apply::Options { ownership, overlay, limits: Limits::default(), lower: &lower };
            std::fs::create_dir(snapshot)?;
            format!("{:?}", apply::unpack(io::stdin(), &Snapshot::at(*snapshot), &options)?)
        }
        ["image", name, blob, directory, archive] => image(name, blob, Path::new(directory), Path::new(archive))?,
        ["validate", path] => {
            let layout = Layout::open(Path::new(path))?;
            let report = validate(&layout, layout.root(None)?);
            if let Some(problem) = report.problems.into_iter().next() {
                return Err(problem.into());
            }
            format!("{} images, {} blobs, {} bytes", report.images, report.blobs, report.bytes)
        }
        _ => return Err("layer compress|diff|export|unpack|image|validate …: see the top of its source".into()),
    };
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    eprintln!("{result}\n{:.3} s, {peak}", started.elapsed().as_secs_f64());
    Ok(())
}

fn image(name: &str, blob: &str, directory: &Path, archive: &Path) -> Result<String, Box<dyn Error>> {
    let mut diff_id = io::BufReader::new(Decompressor::new(File::open(blob)?)?);
    let (digest, size) = Digest::of_reader(&mut File::open(blob)?)?;
    let platform = Platform::host().ok_or("no image is made for this machine")?;
    let config = ImageConfig {
        created: None,
        author: None,
        architecture: platform.architecture,
        os: platform.os,
        config: ContainerConfig::default(),
        rootfs: RootFs::new(vec![DiffId(Digest::of_reader(&mut diff_id)?.0)]),
        history: Vec::new(),
    };
    let layer = Descriptor::new(media_type::LAYER_GZIP, digest, size);
    let manifest = Manifest::new(config.descriptor(), vec![layer]);
    let documents = [config.to_bytes(), manifest.to_bytes()].map(|bytes| (Digest::of(&bytes), bytes));
    let source = Source { documents: documents.into(), layer: (digest, blob.into()) };
    let named = Named { root: manifest.descriptor(), names: vec![name.parse()?] };
    let images = Images::read(&source, vec![named])?;
    images.write_directory(directory)?;
    images.save_archive(Form::Docker { platform }, archive)?;
    Ok(manifest.descriptor().digest.to_string())
}

struct Source {
    documents: BTreeMap<Digest, Vec<u8>>,
    layer: (Digest, PathBuf),
}

impl BlobSource for Source {
    fn open(&self, digest: &Digest) -> io::Result<Box<dyn Read + Send + '_>> {
        if *digest == self.layer.0 {
            return Ok(Box::new(File::open(&self.layer.1)?));
        }
        Ok(Box::new(&self.documents.get(digest).ok_or(io::ErrorKind::NotFound)?[..]))
    }
}

fn parse(compression: &str) -> Result<Compression, Box<dyn Error>> {
    Ok(match compression {
        "gzip" => Compression::Gzip,
        "zstd" => Compression::Zstd,
        "none" => Compression::None,
        other => return Err(format!("no compression is called {other}").into()),
    })
}

fn snapshots(directories: &[&str]) -> Vec<Snapshot> {
    directories.iter().map(|directory| Snapshot::at(*directory)).collect()
}
