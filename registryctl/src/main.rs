//! The service registry from the shell: `registryctl --help`.

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

/// What a verb comes to.
type Outcome = Result<ExitCode, Failure>;

const EXIT_CODES: &str = "\
Exit codes: 0 it worked; 1 it did not, or `get` found no instance; 2 it was called wrongly.
`run` exits with the code of its command, 128 and the signal that the command died of, 127 if there
is no such command, and 126 if it cannot be executed.

Data goes to standard output, notes and errors go to standard error.";

/// The service registry from the shell.
///
/// A registry is an etcd, a Redis or, within one process only and so for trials of this tool,
/// memory: `mem://`.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Arguments {
    /// The registry, such as `etcd://127.0.0.1:2379/prod` or `redis://127.0.0.1:6379/0`.
    ///
    /// A URL with a password belongs in the environment: everybody on the machine sees the
    /// arguments of a command. It is never printed.
    #[arg(long, global = true, env = URL_VARIABLE, hide_env_values = true, value_name = "URL")]
    #[arg(value_parser = |url: &str| Ok::<_, Infallible>(Secret::new(url)))]
    registry: Option<Secret>,

    /// Print JSON, one object a line.
    #[arg(long, global = true)]
    json: bool,

    /// How long the registry may take for an answer.
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
        let url = registry.unwrap_or_else(|| unnamed());
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
            return ExitCode::SUCCESS; // as `head` does when it has seen enough
        }
        note(format_args!("error: {failure}"));
        if let Some(advice) = failure.advice() {
            note(format_args!("advice: {advice}"));
        }
        failure.exit_code()
    })
}

/// There is no registry that goes without saying.
fn unnamed() -> ! {
    let message = format!(
        "no registry is named: set {URL_VARIABLE} or --registry, such as `etcd://127.0.0.1:2379/prod` or `redis://127.0.0.1:6379/0`"
    );
    Arguments::command().error(ErrorKind::MissingRequiredArgument, message).exit()
}
