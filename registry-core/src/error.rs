//! The error type. Its kind tells the caller what to do next.

use crate::Holder;
use crate::printable::{PrintableError, into_printable};
use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The cause of an [`Error`].
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// A result whose error type is [`Error`] by default.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an [`Error`]: what the caller should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request or the configuration is invalid. Nothing was changed; a retry cannot help.
    Invalid,
    /// The store refused the credentials. A retry cannot help.
    Denied,
    /// The lease expired, was revoked or was taken over, or its last acknowledged record is gone.
    LeaseLost,
    /// Another holder has the instance id, and the claim does not take over from that holder.
    Superseded,
    /// The store no longer has the history after the cursor.
    Compacted,
    /// The history that the cursor belongs to was rolled back or replaced.
    Diverged,
    /// The store could not be reached or did not answer in time: the outcome is unknown.
    Unavailable,
    /// The store, or this library, broke the contract.
    Internal,
    /// The store does not offer this operation. A retry cannot help.
    Unsupported,
    /// The client, the registration or the view was closed, or its runtime was shut down.
    Closed,
    /// The service has no available instance at the moment.
    NoInstance,
}

impl ErrorKind {
    /// Returns what to do about the error, as an imperative sentence without a full stop.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Invalid => "correct the request or the configuration",
            Self::Denied => "correct the credentials or the permissions",
            Self::LeaseLost => "register again",
            Self::Superseded => {
                "stop, or take over from the holder deliberately: another incarnation has the id"
            }
            Self::Compacted => "load again: the history is gone",
            Self::Diverged => "load again: the history was rolled back",
            Self::Unavailable => "retry with backoff: the outcome is unknown",
            Self::Internal => "report a bug: the store or this library broke the contract",
            Self::Unsupported => "avoid the operation, or use a store that offers it",
            Self::Closed => "stop: open a new one if it is still needed",
            Self::NoInstance => "retry once an instance is available",
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
/// Programs decide by the [`kind`](Self::kind). The message is for people: it does not repeat the
/// [`source`](StdError::source) and never contains a secret. It and the messages of its sources are
/// [printable](crate::printable()), whatever a store or a server sent.
#[derive(Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    /// Boxed, since few errors have a holder.
    holder: Option<Box<Holder>>,
    is_silence: bool,
}

/// Omits unset fields, since a `main` that returns an error prints it with `Debug`.
/// In one line, since a `main` that returns an error prints it so: `Error(unavailable: cannot load: connection refused)`.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({}: {}", self.kind, self.chain())?;
        if let Some(holder) = &self.holder {
            write!(f, ", {holder:?}")?;
        }
        f.write_str(")")
    }
}

impl Error {
    /// Returns an error of `kind`. Unprintable characters of the message are escaped.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = into_printable(message.into());
        Self { kind, message, source: None, holder: None, is_silence: false }
    }

    /// Returns an `Unavailable` error that ends a watch whose source sent nothing for `limit`.
    pub fn silent(limit: Duration) -> Self {
        let message = format!(
            "the store sent nothing on a watch in time: watch again after its cursor, silence=`{limit:?}`"
        );
        Self { is_silence: true, ..Self::new(ErrorKind::Unavailable, message) }
    }

    /// Adds the error that caused this one. Unprintable characters of its messages are escaped.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        let source = source.into();
        self.source = Some(match PrintableError::replacing(&*source) {
            Some(printable) => Arc::new(printable),
            None => Arc::from(source),
        });
        self
    }

    /// Adds the current holder of the id to a `Superseded` error.
    #[must_use]
    pub fn with_holder(mut self, holder: Holder) -> Self {
        self.holder = Some(Box::new(holder));
        self
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the message and those of all sources in one line, for logs.
    pub fn chain(&self) -> impl fmt::Display {
        let errors = std::iter::successors(Some(self as &dyn StdError), |error| (*error).source());
        let mut messages: Vec<_> = errors.map(ToString::to_string).collect();
        messages.dedup(); // some errors of I/O wrap one that says the same
        messages.join(": ")
    }

    /// Returns the current holder of the id, if this is a `Superseded` error of
    /// [`register`](crate::Registry::register). Pass it to [`Takeover::From`](crate::Takeover::From) to displace the
    /// holder.
    pub fn holder(&self) -> Option<&Holder> {
        self.holder.as_deref()
    }

    /// Returns whether a watch ended because its source was [silent](Self::silent). Changes during the silence were not
    /// noticed.
    pub fn is_silence(&self) -> bool {
        self.is_silence
    }

    /// Returns whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.kind == ErrorKind::Unavailable
    }
}

/// Lets functions accept infallible conversions where `Error: From<S::Error>` is required.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_does_not_repeat_its_source() {
        let cause = std::io::Error::other("connection reset");
        let error = Error::new(ErrorKind::Unavailable, "cannot load").with_source(cause);
        assert_eq!(error.to_string(), "cannot load");
        assert_eq!(error.source().unwrap().to_string(), "connection reset");
        assert!(error.is_retryable());
    }

    /// A `main` that returned an error printed a nest of structs.
    #[test]
    fn debug_output_is_one_line_with_the_kind_and_each_message_once() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let twice = Error::new(ErrorKind::Unavailable, refused.to_string()).with_source(refused);
        let error = Error::new(ErrorKind::Unavailable, "cannot load").with_source(twice);
        assert_eq!(format!("{error:?}"), "Error(unavailable: cannot load: connection refused)");
    }

    /// The message of a server could send control sequences to the terminal of a person who prints the error.
    #[test]
    fn errors_and_their_sources_contain_no_control_characters() {
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
