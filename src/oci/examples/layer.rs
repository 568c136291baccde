//! Layers by hand, for measurements and for comparing with other programs:
//!
//! ```text
//! layer compress gzip|zstd|none THREADS < TAR > BLOB
//! layer diff EPOCH|- UPPER LOWER… > TAR            snapshots, as directories that hold `fs`; LOWER topmost last
//! layer export gzip|zstd|none THREADS UPPER LOWER… > BLOB
//! layer unpack real|recorded SNAPSHOT LOWER… < BLOB
//! ```
//! What was made, how long it took and the peak memory go to standard error.

#![expect(clippy::print_stderr, reason = "a program for people, not part of the library")]

use std::error::Error;
use std::io::{self, BufReader};
use std::num::NonZeroUsize;
use std::time::Instant;

use oci::layer::Snapshot;
use oci::layer::apply::{self, OverlayXattrs};
use oci::layer::compress::{Compression, LayerWriter};
use oci::layer::diff;
use oci::layer::ownership::Ownership;
use oci::layer::tar::{Limits, TarWriter};

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
        _ => return Err("layer compress|diff|export|unpack …: see the top of its source".into()),
    };
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    eprintln!("{result}\n{:.3} s, {peak}", started.elapsed().as_secs_f64());
    Ok(())
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
