//! Resolves packages against local `Packages` files and prints what is chosen, one file name a line.
//!
//! `resolve ARCHITECTURE [--essential|--required] [--exclude NAME]… SUITE=FILE[,FILE…]… -- WANTED…`

use std::error::Error;
use std::fs::File;
use std::io::{BufReader, Write, stderr, stdout};
use std::time::Instant;

use debian::resolve::{Baseline, Request, Suite, resolve};
use debian::{Compression, PackageIndex};
use diag::Reported;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let architecture = arguments.next().ok_or("an architecture is needed")?;
    let mut request = Request {
        architecture: &architecture,
        wanted: Vec::new(),
        baseline: Baseline::Nothing,
        exclude: Vec::new(),
        below: &[],
    };
    let mut suites = Vec::new();
    let begun = Instant::now();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--essential" => request.baseline = Baseline::Essential,
            "--required" => request.baseline = Baseline::Required,
            "--exclude" => request.exclude.extend(arguments.next()),
            "--" => break,
            suite => suites.push(read(suite)?),
        }
    }
    request.wanted = arguments.map(|text| text.parse()).collect::<Result<_, _>>()?;
    let read = begun.elapsed();
    let result = resolve(&suites, &request);
    writeln!(stderr(), "indexes {read:?}, resolved {:?}", begun.elapsed() - read)?;
    match result {
        Ok(packages) => {
            packages.iter().try_for_each(|package| {
                writeln!(stdout(), "{} {} {} {}", package.suite, package.filename, package.size, package.sha256.hex())
            })?;
            Ok(())
        }
        Err(error) => Err(format!("{:#?}", error.diagnostic()).into()),
    }
}

fn read(argument: &str) -> Result<Suite, Box<dyn Error>> {
    let (name, files) = argument.split_once('=').ok_or("SUITE=FILE is needed")?;
    // Backports are taken from only when asked or needed, as apt has it.
    let priority = if name.ends_with("-backports") { 100 } else { 500 };
    let index = |path: &str| -> Result<PackageIndex, Box<dyn Error>> {
        let extension = path.rfind('.').map_or("", |dot| &path[dot..]);
        let compression = Compression::from_extension(extension).unwrap_or(Compression::Plain);
        Ok(PackageIndex::read(BufReader::new(File::open(path)?), compression)?)
    };
    Ok(Suite { name: name.to_owned(), priority, indexes: files.split(',').map(index).collect::<Result<_, _>>()? })
}
