//! Errors of the verbs.

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
    #[error("unknown verb, verb=`{0}`")]
    NoVerb(String),
    #[error("cannot wait for the command: {0}")]
    Wait(io::Error),
    #[error("the command does not listen, address=`{0}`, ready-timeout=`{1:?}`")]
    NotReady(String, Duration),
    #[error(
        "the registry did not answer: the instance may stay listed until its ttl has passed, timeout=`{0:?}`"
    )]
    NotWithdrawn(Duration),
}

impl Failure {
    /// Returns the exit code. For a command that cannot be started it is that of shells and of `env`.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Start(_, error) if error.kind() == io::ErrorKind::NotFound => ExitCode::from(127),
            Self::Start(..) => ExitCode::from(126),
            Self::NoVerb(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }

    /// Returns what to do about the error.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        match self {
            // The advice of the kind is for programs, which can wait and retry.
            Self::Registry(error) if error.kind() == ErrorKind::Unavailable => Some(
                "check that the store runs at that address, then repeat the command: it may already have taken effect",
            ),
            Self::Registry(error) => Some(error.kind().advice()),
            Self::NotReady(..) => Some(
                "check that the command listens there, or set --probe or a longer --ready-timeout",
            ),
            Self::NotWithdrawn(_) => Some(
                "check that the store runs; `registryctl get SERVICE` shows which instances are listed",
            ),
            Self::NoVerb(_) => Some("see `registryctl --help`"),
            Self::Output(_) | Self::Signals(_) | Self::Start(..) | Self::Wait(_) => None,
        }
    }

    /// Returns whether the reader of the output has closed the pipe.
    pub(crate) fn is_closed_output(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
