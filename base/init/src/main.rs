//! claw-init, PID 1 of every image clawbuild makes.
//!
//! It puts the environment together ([`environment`]), renders the configuration ([`config`]), gives up root
//! ([`identity`]), runs the processes ([`supervisor`]), and answers whether they work ([`health`]). What to do it reads
//! from a manifest ([`manifest`]) that clawbuild writes from the recipe.
//!
//! The program has no dependencies, not even a C library, and is one static file; so it works in an image that holds
//! nothing else. clawbuild compiles it with `--cfg freestanding`. Without that it is an ordinary program with the same
//! behaviour, for tests and tools.
#![cfg_attr(freestanding, no_std)]
#![cfg_attr(freestanding, no_main)]

extern crate alloc;

mod config;
mod environment;
mod failure;
mod health;
mod identity;
mod json;
mod lines;
mod manifest;
mod readiness;
mod render;
mod signal;
mod supervisor;
mod sys;
mod value;

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use environment::Environment;
use failure::Failure;
use health::Question;
use manifest::{Manifest, Process};
use sys::{print, say};

/// What the program is called with.
pub(crate) const USAGE: &str = "\
usage: claw-init [run] [--] [PROGRAM [ARGUMENT]...]   run the image's command, or another in its place
       claw-init run -OPTION...                       run the image's command with further arguments
       claw-init render [--check]                     write the configuration, or only see whether it could be
       claw-init health                               ask whether the container works
       claw-init version";

/// Also the version in Cargo.toml; written out because a bare `rustc` does not read that file.
const VERSION: &str = "0.1.0";

/// Names another manifest than the image's.
const MANIFEST_VARIABLE: &str = "CLAW_INIT_MANIFEST";

/// The program's beginning where the standard library has the first word.
#[cfg(not(freestanding))]
fn main() -> std::process::ExitCode {
    let bytes = std::ffi::OsString::into_encoded_bytes;
    let variables = std::env::vars_os().map(|(name, value)| (bytes(name), bytes(value)));
    run(std::env::args_os().skip(1).map(bytes), variables).into()
}

/// Does what the arguments say. Gives the exit status.
fn run(arguments: impl Iterator<Item = Vec<u8>>, variables: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> u8 {
    let arguments = arguments.map(String::from_utf8).collect::<Result<Vec<String>, _>>();
    let result = arguments
        .map_err(|_| Failure::Usage("an argument is not UTF-8".to_owned()))
        .and_then(|arguments| act(&arguments, Environment::of(variables)));
    result.unwrap_or_else(|failure| {
        say(format_args!("{failure}"));
        failure.status()
    })
}

fn act(arguments: &[String], given: Environment) -> Result<u8, Failure> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["run", "--", command @ ..] | ["run" | "--", command @ ..] => start(command, given),
        ["health"] => health(given),
        ["render"] => {
            let manifest = load(&given)?;
            let environment = given.gather(&manifest)?;
            manifest.config.iter().try_for_each(|config| config::install(config, &environment)).map(|()| 0)
        }
        ["render", "--check"] => check(given),
        ["version"] => {
            print(format_args!("claw-init {VERSION}"));
            Ok(0)
        }
        ["health" | "render" | "version", unexpected @ ..] => {
            Err(Failure::Usage(format!("unexpected argument `{}`", unexpected.first().unwrap_or(&""))))
        }
        command => start(command, given),
    }
}

fn load(given: &Environment) -> Result<Manifest, Failure> {
    Manifest::load(given.text(MANIFEST_VARIABLE)?.unwrap_or(manifest::DEFAULT_PATH))
}

fn health(given: Environment) -> Result<u8, Failure> {
    let manifest = load(&given)?;
    // A secret that only root could read is no reason to be unhealthy: the processes had it.
    let environment = given.clone().gather(&manifest).unwrap_or(given);
    let of_container = manifest.health.iter();
    let of_container = of_container.map(|health| Question { name: None, health, environment: environment.clone() });
    let of_processes = manifest.processes.iter().filter_map(|process| {
        let environment = environment.with(&process.env);
        process.health.as_ref().map(|health| Question { name: Some(&process.name), health, environment })
    });
    let questions: Vec<Question<'_>> = of_container.chain(of_processes).collect();
    Ok(u8::from(!health::all_well(&questions)?))
}

fn start(command: &[&str], given: Environment) -> Result<u8, Failure> {
    let manifest = load(&given)?;
    let processes = processes(&manifest, command)?;
    // Secrets may be readable by root alone, so they are read first; the configuration belongs to the user, so it is
    // written last.
    let environment = given.gather(&manifest)?;
    identity::settle(&manifest, &environment)?;
    for config in &manifest.config {
        config::install(config, &environment)?;
    }
    supervisor::run(&processes, &environment, manifest.stop)
}

/// What runs: the manifest's processes, the main one with further options, or a command in their place.
fn processes(manifest: &Manifest, command: &[&str]) -> Result<Vec<Process>, Failure> {
    let mut processes = manifest.processes.clone();
    let Some(first) = command.first() else {
        return Ok(processes);
    };
    if first.is_empty() {
        return Err(Failure::Usage("the program's name is empty".to_owned()));
    }
    let command = command.iter().map(|arg| (*arg).to_owned());
    if first.starts_with('-') {
        let main = processes.iter_mut().find(|process| process.is_main);
        main.expect("a manifest has a main process").command.extend(command);
        return Ok(processes);
    }
    Ok(vec![Process::only(command.collect(), manifest.stop)])
}

/// Renders everything and writes nothing. Says what would be written, values excepted.
fn check(given: Environment) -> Result<u8, Failure> {
    let manifest = load(&given)?;
    let environment = given.gather(&manifest)?;
    for config in &manifest.config {
        match config::render(config, &environment)? {
            config::Rendered::Kept => print(format_args!("{}: kept", config.path)),
            config::Rendered::Text { overridden, .. } => {
                print(format_args!("{}: {overridden} overridden", config.path))
            }
        }
    }
    Ok(0)
}
