//! One opaque error, whose kind says what the caller does next.

use crate::Holder;
use crate::printable::{PrintableError, into_printable};
use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What an [`Error`] was caused by.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// A result whose error is a registry's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller of a failed operation does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request or the configuration is wrong. Nothing was changed; a retry cannot help.
    Invalid,
    /// The store refused the credentials. A retry cannot help.
    Denied,
    /// The lease expired, was revoked, was taken over, or its last acknowledged record is gone.
    LeaseLost,
    /// Another lease holds the instance id, and the claim does not name it as the one to displace.
    Superseded,
    /// The history after the cursor is no longer held.
    Compacted,
    /// The history that the cursor belongs to was rolled back or replaced.
    Diverged,
    /// The store did not answer in time: the outcome is unknown.
    Unavailable,
    /// The store, or this library, broke the contract.
    Internal,
    /// The store does not offer this operation. A retry cannot help.
    Unsupported,
    /// The client, the registration or the view was closed, or its runtime was shut down.
    Closed,
    /// The service has no instance that can be called now.
    NoInstance,
}

impl ErrorKind {
    /// What to do about it, as one imperative sentence without a full stop.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Invalid => "correct the request or the configuration",
            Self::Denied => "correct the credentials or the permissions",
            Self::LeaseLost => "register again",
            Self::Superseded => {
                "stop, or take over from the holder on purpose: another incarnation has the id"
            }
            Self::Compacted => "load again: the history is gone",
            Self::Diverged => "load again: the history was rolled back",
            Self::Unavailable => "retry with backoff: the outcome is unknown",
            Self::Internal => "report it: the contract was broken",
            Self::Unsupported => "do without it, or use a store that offers it",
            Self::Closed => "stop: open a new one if it is still needed",
            Self::NoInstance => "retry when an instance is registered and available",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::LeaseLost => "lease lost",
            Self::Superseded => "superseded",
            Self::Compacted => "compacted",
            Self::Diverged => "diverged",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
            Self::Unsupported => "unsupported",
            Self::Closed => "closed",
            Self::NoInstance => "no instance",
        })
    }
}

/// An error of a registry.
///
/// [`kind`](Self::kind) is what a program decides by. The message is for people: it says what was
/// wrong and what is allowed, and never repeats the [`source`](StdError::source) nor shows a secret. It and the messages
/// of the sources are [printable](crate::printable()), whatever a store or a server sent.
#[derive(Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    /// Boxed, since few errors have one.
    holder: Option<Box<Holder>>,
    is_silence: bool,
}

/// Leaves out what most errors do not have, since `main` shows an error like this.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &self.kind).field("message", &self.message);
        if let Some(source) = &self.source {
            debug.field("source", source);
        }
        if let Some(holder) = &self.holder {
            debug.field("holder", holder);
        }
        if self.is_silence {
            debug.field("is_silence", &true);
        }
        debug.finish()
    }
}

impl Error {
    /// An error of `kind`. What does not print in the message is escaped.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = into_printable(message.into());
        Self { kind, message, source: None, holder: None, is_silence: false }
    }

    /// An `Unavailable` error that ends a watch, since its source gave no sign of life for `limit`.
    pub fn silent(limit: Duration) -> Self {
        let message = format!(
            "the store is silent on a watch: watch again after its cursor, silent=`{limit:?}`"
        );
        Self { is_silence: true, ..Self::new(ErrorKind::Unavailable, message) }
    }

    /// Adds the error that caused this one. What does not print in its messages is escaped.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        let source = source.into();
        self.source = Some(match PrintableError::replacing(&*source) {
            Some(printable) => Arc::new(printable),
            None => Arc::from(source),
        });
        self
    }

    /// Adds the current holder of the id, to a `Superseded` error.
    #[must_use]
    pub fn with_holder(mut self, holder: Holder) -> Self {
        self.holder = Some(Box::new(holder));
        self
    }

    /// What to do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message, and those of what caused it: for a log, in one line.
    pub fn chain(&self) -> impl fmt::Display {
        std::iter::successors(Some(self as &dyn StdError), |error| (*error).source())
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(": ")
    }

    /// Returns the current holder of the id, if this is a `Superseded` error of
    /// [`register`](crate::Registry::register): what [`Takeover::From`](crate::Takeover::From) takes.
    pub fn holder(&self) -> Option<&Holder> {
        self.holder.as_deref()
    }

    /// Whether a watch ended because its source was [silent](Self::silent): for that long, nobody noticed what happened
    /// in the store.
    pub fn is_silence(&self) -> bool {
        self.is_silence
    }

    /// Whether the same call may succeed later, unchanged.
    pub fn is_retryable(&self) -> bool {
        self.kind == ErrorKind::Unavailable
    }
}

/// What cannot fail has no error: it makes conversions of every kind fit one signature.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_its_kind_and_keeps_its_source_out_of_the_message() {
        let cause = std::io::Error::other("connection reset");
        let error = Error::new(ErrorKind::Unavailable, "cannot load").with_source(cause);
        assert_eq!(error.to_string(), "cannot load");
        assert_eq!(error.source().unwrap().to_string(), "connection reset");
        assert!(error.is_retryable());
    }

    /// A server's own words steered the terminal of whoever printed the error.
    #[test]
    fn text_from_outside_cannot_steer_a_terminal_through_an_error_or_its_sources() {
        let server = std::io::Error::other("ERR \u{1b}[2J\nWARN forged");
        let wrapped = Error::new(ErrorKind::Internal, "reply=`\u{202e}`").with_source(server);
        let error = Error::new(ErrorKind::Unavailable, "cannot load\u{200b}").with_source(wrapped);
        let shown = "cannot load\\u{200b}: reply=`\\u{202e}`: ERR \\u{1b}[2J\\nWARN forged";
        assert_eq!(error.chain().to_string(), shown);
        let chain = std::iter::successors(Some(&error as &dyn StdError), |error| (*error).source());
        let messages: Vec<_> = chain.map(ToString::to_string).collect();
        assert_eq!(messages.join(": "), shown);

        let foreign = std::io::Error::other(std::io::Error::other("a\nb"));
        let error = Error::new(ErrorKind::Unavailable, "cannot load").with_source(foreign);
        assert_eq!(error.chain().to_string(), "cannot load: a\\nb");
    }
}
