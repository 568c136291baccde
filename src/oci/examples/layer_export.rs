//! Compresses a tar from standard input, for measurements: `layer_export gzip|zstd|none THREADS < tar`.

#![expect(clippy::print_stderr, reason = "a program for people, not part of the library")]

use std::io;
use std::num::NonZeroUsize;
use std::time::Instant;

use oci::layer::compress::{Compression, LayerWriter};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().collect();
    let compression = match &*arguments[1] {
        "gzip" => Compression::Gzip,
        "zstd" => Compression::Zstd,
        _ => Compression::None,
    };
    let threads: NonZeroUsize = arguments[2].parse()?;
    let start = Instant::now();
    let mut writer = LayerWriter::new(io::sink(), compression, threads);
    io::copy(&mut io::BufReader::with_capacity(1 << 20, io::stdin()), &mut writer)?;
    let (layer, _) = writer.finish()?;
    eprintln!("{:?} {layer:?}", start.elapsed());
    Ok(())
}
