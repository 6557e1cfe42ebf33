//! `run`: runs a command that is registered while it listens.

use crate::child::{Child, died_of};
use crate::output::{Output, note};
use crate::registration::{Plan, RegistrationArguments};
use crate::session::Session;
use crate::signals::{STOP, Signals};
use crate::{Failure, Outcome};
use futures_util::StreamExt;
use rustix::process::{Signal, getpid, kill_process};
use service_registry::store::{Registry, Start};
use service_registry::{Address, Registration};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Run a command, and keep it registered while it listens and runs.
///
/// The command is registered once its address accepts connections, and withdrawn when it ends. A
/// command that ends before it listens is never registered. If something already listens at the
/// address before the start, `run` prints a warning, because it cannot tell that listener from the
/// command. If the registry is down, the command starts after --timeout at the latest, and is
/// registered once the registry answers. The status is printed to standard error.
///
/// SIGTERM, SIGINT and SIGQUIT first drain and withdraw the instance, and are then passed on to the
/// command; a second one cuts the draining short. SIGHUP, SIGUSR1 and SIGUSR2 are passed on at once.
///
/// SIGTSTP (Ctrl-Z) drains and withdraws the instance, then stops the command and `run`. SIGCONT
/// (`fg`) continues both, and registers the instance again.
///
/// The exit code is that of the command: 128+N if signal N ended it or arrived before it was
/// started, 127 if the command does not exist, 126 if it cannot be executed.
///
/// The command has its own process group, and signals go to the whole group. It reads from
/// /dev/null if standard input is a terminal. Its orphans are reaped, so `run` can be the first
/// process of a container. `REGISTRYCTL_URL` is removed from its environment; `REGISTRY_URL` stays.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    registration: RegistrationArguments,

    /// How long to wait until the command listens.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    #[arg(value_parser = humantime::parse_duration)]
    ready_timeout: Duration,

    /// Address to probe instead of the address of the instance.
    #[arg(long, value_name = "HOST:PORT")]
    probe: Option<Address>,

    /// How long to wait for the command to end after a signal before it is killed.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    #[arg(value_parser = humantime::parse_duration)]
    kill_after: Duration,

    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Arguments {
    /// Returns the address to probe.
    fn probe(&self) -> &Address {
        self.probe.as_ref().unwrap_or_else(|| self.registration.address())
    }
}

/// The signals that are handled from the beginning: those that end the command, and those that are passed on.
const HANDLED: [Signal; 6] = [STOP[0], STOP[1], STOP[2], Signal::HUP, Signal::USR1, Signal::USR2];

/// The signals that pause and continue the command. They have their default action before it is started.
const PAUSING: [Signal; 2] = [Signal::TSTP, Signal::CONT];

/// Interval between probes.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);

/// Timeout of one probe. If a firewall drops its packets, the system retries for minutes, and misses that the command
/// listens by then.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let mut signals = Signals::of(&HANDLED)?;
    let plan = arguments.registration.plan(Start::InBackground)?;
    let probe = arguments.probe();
    let first = async { tokio::join!(session.connect(), listens(probe)) };
    let (first, is_taken) = match signals.or(first).await {
        Ok(found) => found,
        Err(signal) => return Ok(died_of(signal.as_raw())), // nothing was started yet
    };
    let registry = match first {
        Err(error) if error.is_retryable() => {
            note(format_args!("not registered yet: {}", error.chain()));
            session.connect_lazy()?
        }
        first => first?,
    };
    if is_taken {
        note(format_args!(
            "warning: something already listens at {probe}, before the command has started"
        ));
    }
    let sidecar = Sidecar { session, arguments, plan };
    let mut signals = signals.and(&PAUSING)?;
    let mut child = Child::start(&arguments.command)?;
    loop {
        let ended = match sidecar.supervise(registry.clone(), &mut child, &mut signals).await {
            Ok(Leave::Ended(code)) => return Ok(code),
            Ok(Leave::Stop(signal)) => Some(signal),
            Ok(Leave::Pause) => pause(&mut child, &mut signals).await,
            Err(failure) => {
                child.stop(Signal::TERM, arguments.kill_after, &mut signals).await?;
                return Err(failure);
            }
        };
        if let Some(signal) = ended {
            return child.stop(signal, arguments.kill_after, &mut signals).await;
        }
    }
}

/// Why the command is no longer registered.
enum Leave {
    Ended(ExitCode),
    /// A signal asks it to end.
    Stop(Signal),
    /// It is to be paused until SIGCONT.
    Pause,
}

/// Passes a signal on to the command, unless the instance must be withdrawn first.
fn handle(signal: Signal, child: &Child) -> Option<Leave> {
    match signal {
        Signal::TSTP => return Some(Leave::Pause),
        stop if STOP.contains(&stop) => return Some(Leave::Stop(stop)),
        other => child.send(other),
    }
    None
}

/// Stops the command and then this process, so that the shell shows its prompt, until SIGCONT or the end of the command.
/// Returns the signal if one asks to end instead.
async fn pause(child: &mut Child, signals: &mut Signals) -> Option<Signal> {
    child.send(Signal::TSTP);
    // The first process of a container cannot be stopped; it waits below.
    let _ = kill_process(getpid(), Signal::STOP);
    let stop = loop {
        tokio::select! {
            _ = child.ended() => break None,
            signal = signals.next() => match signal {
                Signal::CONT => break None,
                stop if STOP.contains(&stop) => break Some(stop),
                Signal::TSTP => {}
                other => child.send(other),
            },
        }
    };
    child.send(Signal::CONT); // a stopped process gets no other signal
    stop
}

struct Sidecar<'a> {
    session: &'a Session,
    arguments: &'a Arguments,
    plan: Plan,
}

impl Sidecar<'_> {
    /// Registers the command once it listens, until it ends, is asked to end or is paused.
    async fn supervise(
        &self,
        registry: Arc<dyn Registry>,
        child: &mut Child,
        signals: &mut Signals,
    ) -> Result<Leave, Failure> {
        let registration = {
            let mut start = pin!(self.start(registry));
            loop {
                tokio::select! {
                    code = child.ended() => return code.map(Leave::Ended),
                    signal = signals.next() => if let Some(leave) = handle(signal, child) {
                        return Ok(leave);
                    },
                    started = &mut start => break started?,
                }
            }
        };
        self.serve(registration, child, signals).await
    }

    /// Waits until the command listens, and starts to register it.
    async fn start(&self, registry: Arc<dyn Registry>) -> Result<Registration, Failure> {
        let (probe, limit) = (self.arguments.probe(), self.arguments.ready_timeout);
        if timeout(limit, wait_until_listening(probe)).await.is_err() {
            return Err(Failure::NotReady(probe.to_string(), limit));
        }
        let Plan { instance, options, .. } = self.plan.clone();
        Ok(Registration::start(registry, instance, options).await?)
    }

    /// Keeps the command registered until it ends, is asked to end or is paused. Then withdraws it.
    async fn serve(
        &self,
        registration: Registration,
        child: &mut Child,
        signals: &mut Signals,
    ) -> Result<Leave, Failure> {
        let mut statuses = registration.statuses();
        let mut leave = loop {
            tokio::select! {
                code = child.ended() => {
                    report(self.plan.withdraw(registration, self.output()).await);
                    return code.map(Leave::Ended);
                }
                signal = signals.next() => if let Some(leave) = handle(signal, child) {
                    break leave;
                },
                Some(status) = statuses.next() => report(self.plan.report(self.output(), &status)),
            }
        };
        let cut = async {
            loop {
                tokio::select! {
                    _ = child.ended() => break,
                    signal = signals.next() => if let Some(next) = handle(signal, child) {
                        if matches!(leave, Leave::Pause) {
                            leave = next; // it may ask to end, which overrides the pause
                        }
                        break;
                    },
                }
            }
        };
        report(self.plan.retire(registration, self.output(), cut).await);
        Ok(leave)
    }

    /// Returns an output on standard error: standard output belongs to the command.
    fn output(&self) -> Output {
        self.session.output().on_stderr()
    }
}

/// Prints an error of the registration. The command keeps running.
fn report(outcome: Result<(), Failure>) {
    if let Err(failure) = outcome {
        note(format_args!("error: {failure}"));
    }
}

/// Waits until `address` accepts connections.
async fn wait_until_listening(address: &Address) {
    while !listens(address).await {
        sleep(PROBE_INTERVAL).await;
    }
}

/// Returns whether `address` accepts connections.
async fn listens(address: &Address) -> bool {
    matches!(timeout(PROBE_TIMEOUT, TcpStream::connect(address.as_str())).await, Ok(Ok(_)))
}
