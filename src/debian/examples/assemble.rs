//! Assembles a root filesystem from a directory of `.deb` files.
//!
//! `assemble DIRECTORY OUT.tar.gz EPOCH [--arch ARCH] [--slim] [--database absent|listing|full|unconfigured] [--threads N]
//! [--below DIRECTORY --below-out OUT.tar.gz]`

use std::error::Error;
use std::fs::File;
use std::io::{BufReader, Write, stderr, stdout};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use debian::assemble::{Database, Filter};
use debian::{Assembly, BaseOptions, Deb, Installed, LockedPackage, assemble};
use diag::Reported;
use oci::Digest;
use oci::layer::compress::{Compression, LayerWriter};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut positional = Vec::new();
    let mut options = BaseOptions::default();
    let mut threads = std::thread::available_parallelism()?;
    let mut architecture = "amd64".to_owned();
    let (mut below, mut below_out) = (None, None);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or("a value is missing");
        match argument.as_str() {
            "--slim" => options.filter = Filter::slim(),
            "--arch" => architecture = value()?,
            "--threads" => threads = value()?.parse::<NonZeroUsize>()?,
            "--below" => below = Some(value()?),
            "--below-out" => below_out = Some(value()?),
            "--database" => {
                options.database = match value()?.as_str() {
                    "absent" => Database::Absent,
                    "listing" => Database::Listing,
                    "full" => Database::Full,
                    "unconfigured" => Database::Unconfigured,
                    other => return Err(format!("{other} is no kind of database").into()),
                }
            }
            _ => positional.push(argument),
        }
    }
    let [directory, out, epoch] = positional.as_slice() else { return Err("DIRECTORY OUT EPOCH are needed".into()) };
    let layer = Layer { architecture: &architecture, options: &options, epoch: epoch.parse()?, threads };
    let installed = match (below, below_out) {
        (Some(directory), Some(out)) => Some(layer.make(&directory, None, &out)?),
        _ => None,
    };
    layer.make(directory, installed.as_ref(), out)?;
    Ok(())
}

struct Layer<'a> {
    architecture: &'a str,
    options: &'a BaseOptions,
    epoch: i64,
    threads: NonZeroUsize,
}

impl Layer<'_> {
    fn make(&self, directory: &str, below: Option<&Installed>, out: &str) -> Result<Installed, Box<dyn Error>> {
        let begun = Instant::now();
        let mut packages = Vec::new();
        for file in std::fs::read_dir(directory)? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                packages.push((lock(&path)?, path));
            }
        }
        let hashed = begun.elapsed();
        let out = Path::new(out);
        let writer = LayerWriter::new(File::create(out)?, Compression::Gzip, self.threads);
        let assembly = Assembly {
            architecture: self.architecture,
            packages: &packages,
            below,
            options: self.options,
            epoch: self.epoch,
            spool: out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")),
            threads: self.threads,
            progress: None,
        };
        let (installed, writer) = assemble(&assembly, writer).map_err(|error| format!("{:#?}", error.diagnostic()))?;
        let (blob, _) = writer.finish()?;
        writeln!(
            stderr(),
            "{} packages: hashed in {hashed:?}, assembled in {:?}",
            packages.len(),
            begun.elapsed() - hashed
        )?;
        writeln!(stdout(), "{} {} {} bytes", blob.descriptor.digest, blob.diff_id, blob.uncompressed_size)?;
        Ok(installed)
    }
}

/// Pins a file by what it says of itself.
fn lock(path: &PathBuf) -> Result<LockedPackage, Box<dyn Error>> {
    let (sha256, size) = Digest::of_reader(&mut BufReader::new(File::open(path)?))?;
    let deb = Deb::open(File::open(path)?, debian::deb::Limits::default())?;
    let field = |name: &str| deb.control().fields.get(name).unwrap_or_default().to_owned();
    let (name, version, architecture) = (field("Package"), field("Version"), field("Architecture"));
    let (suite, filename) = (String::new(), path.display().to_string());
    Ok(LockedPackage { source: name.clone(), name, version, architecture, suite, filename, size, sha256 })
}
