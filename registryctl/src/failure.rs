//! Why a verb failed.

use service_registry::ErrorKind;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{}", .0.chain())]
    Registry(#[from] service_registry::Error),
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    #[error("cannot start the command, command=`{0}`: {1}")]
    Start(String, io::Error),
    #[error("there is no such verb, verb=`{0}`")]
    NoVerb(String),
    #[error("cannot wait for the command: {0}")]
    Wait(io::Error),
    #[error("nothing listens in time, address=`{0}`, ready-timeout=`{1:?}`")]
    NotReady(String, Duration),
    #[error(
        "it may be listed until its ttl has passed: the registry did not answer, within=`{0:?}`"
    )]
    NotWithdrawn(Duration),
}

impl Failure {
    /// What this process exits with. Of a command that cannot be started, it is what shells and `env` exit with.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Start(_, error) if error.kind() == io::ErrorKind::NotFound => ExitCode::from(127),
            Self::Start(..) => ExitCode::from(126),
            Self::NoVerb(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }

    /// What to do about it.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        match self {
            // Whoever reads this is no program that could wait: that of the kind is for those.
            Self::Registry(error) if error.kind() == ErrorKind::Unavailable => Some(
                "see that the store runs at that address, then repeat it: it may have been done",
            ),
            Self::Registry(error) => Some(error.kind().advice()),
            Self::NotReady(..) => Some("see why the command does not listen there, or set --probe"),
            Self::NotWithdrawn(_) => {
                Some("see that the store runs; `registryctl ls` shows who is listed")
            }
            Self::NoVerb(_) => Some("see `registryctl --help`"),
            Self::Output(_) | Self::Signals(_) | Self::Start(..) | Self::Wait(_) => None,
        }
    }

    /// Whether whoever read what we print has seen enough.
    pub(crate) fn is_closed_output(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
