//! claw-init, PID 1 of every image clawbuild makes.
//!
//! It puts the environment together ([`environment`]), renders the configuration ([`config`]), gives up root
//! ([`identity`]), runs the processes ([`supervisor`]), and answers whether they work ([`health`]). What to do it reads
//! from a manifest ([`manifest`]) that clawbuild writes from the recipe.
//!
//! The program has no dependencies and is linked statically, so it works in an image that holds nothing else.

mod config;
mod environment;
mod failure;
mod health;
mod identity;
mod json;
mod lines;
mod manifest;
mod render;
mod signal;
mod supervisor;
mod sys;
mod value;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use environment::Environment;
use failure::Failure;
use manifest::{Manifest, OnExit, Process};
use supervisor::Stop;

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

fn main() -> ExitCode {
    let args = std::env::args_os().skip(1).map(text).collect::<Result<Vec<String>, Failure>>();
    match args.and_then(|args| act(&args)) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            eprintln!("claw-init: {failure}");
            ExitCode::from(failure.status())
        }
    }
}

fn text(arg: OsString) -> Result<String, Failure> {
    arg.into_string().map_err(|arg| Failure::Usage(format!("the argument `{}` is not UTF-8", arg.to_string_lossy())))
}

fn act(args: &[String]) -> Result<u8, Failure> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["run", "--", command @ ..] | ["run" | "--", command @ ..] => run(command),
        ["health"] => {
            let manifest = load()?;
            let Some(probe) = &manifest.health else {
                return Ok(0);
            };
            // A secret that only root could read is no reason to be unhealthy: PID 1 had it.
            let environment = Environment::gather(&manifest, std::env::vars_os()).unwrap_or_default();
            health::probe(probe, &environment).map(|()| 0)
        }
        ["render"] => {
            let manifest = load()?;
            let environment = Environment::gather(&manifest, std::env::vars_os())?;
            manifest.config.iter().try_for_each(|config| config::install(config, &environment)).map(|()| 0)
        }
        ["render", "--check"] => check().map(|()| 0),
        ["version"] => {
            println!("claw-init {}", VERSION);
            Ok(0)
        }
        ["health" | "render" | "version", unexpected @ ..] => {
            Err(Failure::Usage(format!("unexpected argument `{}`", unexpected.first().unwrap_or(&""))))
        }
        command => run(command),
    }
}

fn load() -> Result<Manifest, Failure> {
    let path = std::env::var_os(MANIFEST_VARIABLE).map_or_else(|| PathBuf::from(manifest::DEFAULT_PATH), PathBuf::from);
    Manifest::load(&path)
}

fn run(command: &[&str]) -> Result<u8, Failure> {
    let manifest = load()?;
    let processes = processes(&manifest, command)?;
    // Secrets may be readable by root alone, so they are read first; the configuration belongs to the user, so it is
    // written last.
    let environment = Environment::gather(&manifest, std::env::vars_os())?;
    identity::settle(&manifest, &environment)?;
    for config in &manifest.config {
        config::install(config, &environment)?;
    }
    supervisor::run(&processes, &environment, Stop { signal: manifest.stop_signal, timeout: manifest.stop_timeout })
}

/// What runs: the manifest's processes, the first of them with further options, or a command in their place.
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
        processes.first_mut().expect("a manifest has a process").command.extend(command);
        return Ok(processes);
    }
    Ok(vec![Process { name: "main".to_owned(), command: command.collect(), on_exit: OnExit::Stop }])
}

/// Renders everything and writes nothing. Says what would be written, values excepted.
fn check() -> Result<(), Failure> {
    let manifest = load()?;
    let environment = Environment::gather(&manifest, std::env::vars_os())?;
    for config in &manifest.config {
        match config::render(config, &environment)? {
            config::Rendered::Kept => println!("{}: kept", config.path.display()),
            config::Rendered::Text { overridden, .. } => println!("{}: {overridden} overridden", config.path.display()),
        }
    }
    Ok(())
}
