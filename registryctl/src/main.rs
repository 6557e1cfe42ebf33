//! Command-line tool for the service registry: `registryctl --help`.

mod child;
mod completions;
mod doctor;
mod failure;
mod get;
mod ls;
mod man;
mod output;
mod register;
mod registration;
mod run;
mod session;
mod signals;
mod watch;

use self::failure::Failure;
use self::output::note;
use self::session::{Session, URL_VARIABLE};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use service_registry::store::Secret;
use std::convert::Infallible;
use std::process::ExitCode;
use std::time::Duration;

/// The outcome of a verb.
type Outcome = Result<ExitCode, Failure>;

const EXIT_CODES: &str = "\
Exit codes: 0 success; 1 failure, or `get` found no instance; 2 usage error.
`run` exits with the code of its command: 128+N if signal N ended the command, 127 if the command
does not exist, and 126 if it cannot be executed.

Data goes to standard output, notes and errors to standard error.";

/// Command-line tool for the service registry.
///
/// A registry is an etcd, a Redis or `mem://`, a registry in the memory of one process, which is
/// useful only to try this tool.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Arguments {
    /// URL of the registry, such as `etcd://127.0.0.1:2379/prod` or `redis://127.0.0.1:6379/0`.
    ///
    /// Pass a URL that contains a password in the environment variable: every user of the machine
    /// can see command-line arguments. The tool never prints the password.
    #[arg(long, global = true, env = URL_VARIABLE, hide_env_values = true, value_name = "URL")]
    #[arg(value_parser = |url: &str| Ok::<_, Infallible>(Secret::new(url)))]
    registry: Option<Secret>,

    /// Print JSON, one object per line.
    #[arg(long, global = true)]
    json: bool,

    /// How long to wait for each answer of the registry.
    #[arg(long, global = true, value_name = "DURATION", default_value = "10s")]
    #[arg(value_parser = humantime::parse_duration)]
    timeout: Duration,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Ls(ls::Arguments),
    Get(get::Arguments),
    Watch(watch::Arguments),
    Register(register::Arguments),
    Run(run::Arguments),
    Doctor(doctor::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Arguments { registry, json, timeout, verb } = Arguments::parse();
    let session = || {
        let url = registry.unwrap_or_else(|| no_registry());
        Session::new(url, timeout, json)
    };
    let outcome = match &verb {
        Verb::Ls(arguments) => ls::run(&session(), arguments).await,
        Verb::Get(arguments) => get::run(&session(), arguments).await,
        Verb::Watch(arguments) => watch::run(&session(), arguments).await,
        Verb::Register(arguments) => register::run(&session(), arguments).await,
        Verb::Run(arguments) => run::run(&session(), arguments).await,
        Verb::Doctor(arguments) => doctor::run(&session(), arguments).await,
        Verb::Completions(arguments) => completions::run(Arguments::command(), arguments),
        Verb::Man(arguments) => man::run(Arguments::command(), arguments),
    };
    outcome.unwrap_or_else(|failure| {
        if failure.is_closed_output() {
            return ExitCode::SUCCESS; // the reader has closed the pipe, as `head` does
        }
        note(format_args!("error: {failure}"));
        if let Some(advice) = failure.advice() {
            note(format_args!("advice: {advice}"));
        }
        failure.exit_code()
    })
}

/// Exits with a usage error: there is no default registry.
fn no_registry() -> ! {
    let message = format!(
        "no registry is given: set {URL_VARIABLE} or --registry to a URL such as `etcd://127.0.0.1:2379/prod` or `redis://127.0.0.1:6379/0`"
    );
    Arguments::command().error(ErrorKind::MissingRequiredArgument, message).exit()
}
