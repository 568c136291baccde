//! The command line: what can be asked, and one handler for each verb. Handlers only call the pipeline and the printer.

mod arguments;
mod bake;
mod build;
mod cache;
mod check;
mod doctor;
mod failure;
mod frontend_image;
mod graph;
mod list;
mod lock;
mod merge;
mod output;
mod publish;
mod push;
mod sources;
mod test;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};
use diag::{Diagnostic, Reported as _, codes};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::pipeline::{Run, Seat, Session};
use crate::settings::Settings;
use crate::ui::progress::View;
use crate::ui::{self, ColorChoice, Environment, ErrorFormat, Printer, Verbosity};
pub(crate) use arguments::Global;
use arguments::{Arguments, Verb};
pub use failure::Failure;

/// Runs the program and gives its exit status.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = match parse(std::env::args_os().collect()) {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let printer = Printer::new(ui::Settings {
        verbosity: match (arguments.global.quiet, arguments.global.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Verbose,
            (false, false) => Verbosity::Normal,
        },
        color: arguments.global.color.as_deref().and_then(ColorChoice::parse).unwrap_or_default(),
        error_format: arguments.global.error_format.as_deref().and_then(ErrorFormat::parse).unwrap_or_default(),
        environment: Environment::from_process(),
    });
    let result = execute(arguments, &printer);
    let finished = printer.finish();
    let status = match result {
        Ok(()) => 0,
        Err(failure) => {
            let diagnostics = failure.diagnostics();
            diagnostics.iter().for_each(|diagnostic| printer.report(diagnostic));
            diagnostics.first().map_or(codes::cli::BUG.exit, |diagnostic| diagnostic.code.exit).status()
        }
    };
    match finished {
        Ok(()) => ExitCode::from(status),
        Err(error) => {
            printer.report(&error.diagnostic());
            ExitCode::from(codes::cli::OUTPUT.exit.status())
        }
    }
}

/// Parses the command line. A word that is no verb is a target: `clawbuild openclaw` is `clawbuild build openclaw`.
fn parse(mut words: Vec<std::ffi::OsString>) -> Result<Arguments, clap::Error> {
    let command = Arguments::command();
    let is_verb = |word: &str| {
        word == "help"
            || command
                .get_subcommands()
                .any(|verb| verb.get_name() == word || verb.get_all_aliases().any(|alias| alias == word))
    };
    // Options before the first word belong to the program or to `build`, which takes the same ones.
    let options_with_value = ["--store", "--color", "--engine", "--builder", "--error-format", "--progress"];
    let mut index = 1;
    while let Some(word) = words.get(index).and_then(|word| word.to_str()) {
        if !word.starts_with('-') {
            break;
        }
        if ["-h", "--help", "-V", "--version"].contains(&word) {
            return Arguments::from_arg_matches(&command.try_get_matches_from(words)?);
        }
        index += if options_with_value.contains(&word) { 2 } else { 1 };
    }
    let first = words.get(index).and_then(|word| word.to_str());
    let names_all = words.iter().skip(1).any(|word| word == "--all");
    if first.is_some_and(|word| !is_verb(word)) || (first.is_none() && names_all) {
        words.insert(1, "build".into());
    }
    Arguments::from_arg_matches(&command.try_get_matches_from(words)?)
}

/// Help and the version go to stdout as clap writes them; mistakes to stderr with status 2.
fn usage(error: &clap::Error) -> ExitCode {
    // Nothing better can be done when the terminal is gone.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(codes::cli::USAGE.exit.status()) } else { ExitCode::SUCCESS }
}

fn execute(arguments: Arguments, printer: &Printer) -> Result<(), Failure> {
    let settings = Settings::resolve(&arguments.global)?;
    match arguments.verb {
        Verb::Build(build) => build::build(&settings, &build, printer),
        Verb::Check(check) => check::check(&settings, &check, printer),
        Verb::Test(test) => test::test(&settings, &test, printer),
        Verb::Push(push) => push::push(&settings, &push, printer),
        Verb::Merge(merge) => merge::merge(&settings, &merge, printer),
        Verb::Lock(lock) => lock::lock(&settings, &lock, printer),
        Verb::Graph(graph) => graph::graph(&settings, &graph, printer),
        Verb::List(list) => list::list(&list, printer),
        Verb::Show(show) => list::show(&settings, &show, printer),
        Verb::Doctor(doctor) => doctor::doctor(&settings, &doctor, printer),
        Verb::Cache(cache) => cache::cache(&settings, &cache, printer),
        Verb::Publish(publish) => publish::publish(&settings, &publish, printer),
        Verb::FrontendImage(image) => frontend_image::frontend_image(&settings, &image, printer),
        Verb::Frontend => Err(crate::frontend::no_daemon().into()),
        Verb::Explain { code } => explain(&code, printer),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "clawbuild", &mut script);
            printer.data_bytes(&script);
            Ok(())
        }
    }
}

/// Runs what may build. Enters the namespaces of the embedded engine first, while the process still has one thread; the
/// engine itself is readied when it is asked for.
fn run_building<T>(
    settings: &Settings,
    printer: &Printer,
    jobs: Option<u16>,
    work: impl AsyncFnOnce(&Session) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let seat = Seat::take(&settings.engine)?;
    run_async(settings, printer, async |run| work(&Session::new(run, seat, jobs)).await)
}

/// Runs what needs the store or the network: threads, progress, and the end on Ctrl-C.
fn run_async<T>(
    settings: &Settings,
    printer: &Printer,
    work: impl AsyncFnOnce(Run) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let view = View::open(printer, settings.progress);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Diagnostic::new(codes::cli::BUG, "no threads can be started").caused_by(&error))?;
    let result = runtime.block_on(async {
        let cancel = CancellationToken::new();
        let run = Run::open(settings, view.progress(), cancel.clone())?;
        let signals = tokio::spawn(cancel_on_signal(cancel.clone()));
        let result = work(run).await;
        signals.abort();
        // Whatever a step said when it was stopped, the reason is the signal.
        if cancel.is_cancelled() && result.is_err() {
            return Err(crate::pipeline::interrupted());
        }
        result
    });
    drop(runtime);
    view.close();
    result
}

async fn cancel_on_signal(cancel: CancellationToken) {
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = signals else { return };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    cancel.cancel();
}

fn explain(slug: &str, printer: &Printer) -> Result<(), Failure> {
    let Some(code) = codes::find(slug) else {
        let known: Vec<&str> = codes::all().map(|code| code.slug).collect();
        let diagnostic = Diagnostic::new(codes::cli::USAGE, format!("there is no code `{slug}`"));
        let help = diag::did_you_mean(slug, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        return Err(Failure::from(diagnostic.help(help.unwrap_or_else(|| format!("codes: {}", known.join(", "))))));
    };
    printer.data(format_args!(
        "{}: {}\n\n{}\n\nexit status {}\n",
        code.slug,
        code.title,
        code.explanation,
        code.exit.status()
    ));
    Ok(())
}
