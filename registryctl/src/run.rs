//! `run`: a command that is registered while it runs.

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
/// It is registered once its address accepts connections, and withdrawn at once when it ends, with
/// whose code this ends. A command that ends before it listens is never registered. What listens
/// there before it was started is warned of, and cannot be told from it.
///
/// A signal before the command is started ends this with 128 and its number. After that, SIGTERM,
/// SIGINT and SIGQUIT first drain and withdraw the instance, then go to the command; a
/// second one cuts the draining short. SIGHUP, SIGUSR1 and SIGUSR2 go to the command at once. Its
/// states are printed to standard error. A registry that is away keeps the command from running for
/// no longer than --timeout.
///
/// SIGTSTP, which is Ctrl-Z, drains and withdraws the instance, too, since a command that is stopped
/// answers nobody; then the command is stopped, and this process. SIGCONT (`fg`) continues both, and
/// registers the instance again.
///
/// A command that is not found ends this with 127, one that cannot be executed with 126.
///
/// The command has a process group of its own: what is typed at a terminal does not reach it, but
/// by us, and where standard input is a terminal it reads from /dev/null. Signals go to all of the
/// group, and orphans are reaped, so that this can be the first process of a container. The command
/// does not get `REGISTRYCTL_URL`; a `REGISTRY_URL` is its own.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    registration: RegistrationArguments,

    /// How long the command may take until it listens.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    #[arg(value_parser = humantime::parse_duration)]
    ready_timeout: Duration,

    /// Where it is looked whether the command listens, if not at its address.
    #[arg(long, value_name = "HOST:PORT")]
    probe: Option<Address>,

    /// How long the command may take to end after a signal, until it is killed.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    #[arg(value_parser = humantime::parse_duration)]
    kill_after: Duration,

    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Arguments {
    /// Where the command is to listen.
    fn probe(&self) -> &Address {
        self.probe.as_ref().unwrap_or_else(|| self.registration.address())
    }
}

/// Those that are handled from the beginning: those that end, and those that only go to the command.
const HANDLED: [Signal; 6] = [STOP[0], STOP[1], STOP[2], Signal::HUP, Signal::USR1, Signal::USR2];

/// Those that pause, and are handled while there is a command. Before that they do what they do to any process.
const PAUSING: [Signal; 2] = [Signal::TSTP, Signal::CONT];

/// How long to wait before it is looked again whether the command listens.
const PAUSE: Duration = Duration::from_millis(50);

/// How long one look whether somebody listens may take. Packets that a firewall drops are repeated
/// for minutes, and the command may listen by then.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) async fn run(session: &Session, arguments: &Arguments) -> Outcome {
    let mut signals = Signals::of(&HANDLED)?;
    let plan = arguments.registration.plan(Start::InBackground)?;
    let probe = arguments.probe();
    let first = async { tokio::join!(session.connect(), listens(probe)) };
    let (first, is_taken) = match signals.or(first).await {
        Ok(found) => found,
        Err(signal) => return Ok(died_of(signal.as_raw())), // before anything was started
    };
    let registry = match first {
        Err(error) if error.is_retryable() => {
            note(format_args!("not registered yet: {}", error.chain()));
            session.connect_lazy()?
        }
        first => first?, // likewise
    };
    if is_taken {
        note(format_args!("warning: something listens at {probe} already, before the command"));
    }
    let sidecar = Sidecar { session, arguments, plan };
    let mut signals = signals.and(&PAUSING)?;
    let mut child = Child::start(&arguments.command)?;
    loop {
        let ended = match sidecar.attend(registry.clone(), &mut child, &mut signals).await {
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

/// Why the command is registered no longer.
enum Leave {
    Ended(ExitCode),
    /// It is to end.
    Stop(Signal),
    /// It is to be stopped until SIGCONT.
    Pause,
}

/// Passes a signal on to the command, unless it says to leave.
fn heed(signal: Signal, child: &Child) -> Option<Leave> {
    match signal {
        Signal::TSTP => return Some(Leave::Pause),
        stop if STOP.contains(&stop) => return Some(Leave::Stop(stop)),
        other => child.send(other),
    }
    None
}

/// Stops the command and then this process, so that a shell has its prompt, until SIGCONT or the end of the command. A
/// signal that came instead and says to end is returned.
async fn pause(child: &mut Child, signals: &mut Signals) -> Option<Signal> {
    child.send(Signal::TSTP);
    // The first process of a container cannot be stopped, and waits below.
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
    child.send(Signal::CONT); // one that is stopped hears of no other signal
    stop
}

struct Sidecar<'a> {
    session: &'a Session,
    arguments: &'a Arguments,
    plan: Plan,
}

impl Sidecar<'_> {
    /// Registers the command once it listens, and withdraws it when it ends, is to end or is to be paused.
    async fn attend(
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
                    signal = signals.next() => if let Some(leave) = heed(signal, child) {
                        return Ok(leave);
                    },
                    started = &mut start => break started?,
                }
            }
        };
        self.serve(registration, child, signals).await
    }

    /// Waits until the command listens, and begins to register it.
    async fn start(&self, registry: Arc<dyn Registry>) -> Result<Registration, Failure> {
        let (probe, limit) = (self.arguments.probe(), self.arguments.ready_timeout);
        if timeout(limit, listening(probe)).await.is_err() {
            return Err(Failure::NotReady(probe.to_string(), limit));
        }
        let Plan { instance, options, .. } = self.plan.clone();
        Ok(Registration::start(registry, instance, options).await?)
    }

    /// Keeps the command registered until it ends, is to end or is to be paused.
    async fn serve(
        &self,
        registration: Registration,
        child: &mut Child,
        signals: &mut Signals,
    ) -> Result<Leave, Failure> {
        let mut states = registration.statuses();
        let mut leave = loop {
            tokio::select! {
                code = child.ended() => {
                    report(self.plan.withdraw(registration, self.output()).await);
                    return code.map(Leave::Ended);
                }
                signal = signals.next() => if let Some(leave) = heed(signal, child) {
                    break leave;
                },
                Some(state) = states.next() => report(self.plan.report(self.output(), &state)),
            }
        };
        let cut = async {
            loop {
                tokio::select! {
                    _ = child.ended() => break,
                    signal = signals.next() => if let Some(next) = heed(signal, child) {
                        if matches!(leave, Leave::Pause) {
                            leave = next; // to end says more than to pause
                        }
                        break;
                    },
                }
            }
        };
        report(self.plan.retire(registration, self.output(), cut).await);
        Ok(leave)
    }

    /// Standard output is the command's.
    fn output(&self) -> Output {
        self.session.output().on_stderr()
    }
}

/// What goes wrong with the registration is no reason to end the command.
fn report(outcome: Result<(), Failure>) {
    if let Err(failure) = outcome {
        note(format_args!("error: {failure}"));
    }
}

/// Waits until somebody listens.
async fn listening(address: &Address) {
    while !listens(address).await {
        sleep(PAUSE).await;
    }
}

/// Whether somebody listens.
async fn listens(address: &Address) -> bool {
    matches!(timeout(LOOK, TcpStream::connect(address.as_str())).await, Ok(Ok(_)))
}
