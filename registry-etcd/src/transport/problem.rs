//! What is wrong with a server, and what to do about it.

use std::io;

/// A server that is not the etcd that the URL means.
#[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "some come from TLS only"))]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    /// It answered in plain text with an alert of TLS.
    #[error("the server wants TLS: use `etcds://`")]
    WantsTls,
    /// It closed the connection without an answer to the preface of HTTP/2. An etcd with TLS does that.
    #[error(
        "the server closed the connection before its first byte: if it wants TLS, use `etcds://`; a proxy without a server does so, too"
    )]
    ClosedAtOnce,
    /// It speaks HTTP/1.
    #[error("a server of HTTP/1 answers, and no etcd: check host and port")]
    Http1,
    #[error("a Redis answers, and no etcd: check host and port")]
    Redis,
    #[error("the server does not speak HTTP/2, so it is no etcd: check host and port")]
    Unknown,
    /// It answered the handshake of TLS in something else, or hung up.
    #[error("the server does not speak TLS: use `etcd://`, or check host and port")]
    PlainText,
    #[error(
        "the server closed the connection in the TLS handshake: it may speak plain text (`etcd://`), or want a client certificate (`cert` and `key`)"
    )]
    ClosedInHandshake,
    #[error("{0}: check `ca`, and `server_name` if the host is not the name in the certificate")]
    Certificate(String),
    /// The server refused our certificate, or that there is none.
    #[error("the server refused the client certificate, {0}: check `cert` and `key`")]
    Refused(String),
    #[error("the TLS handshake failed: {0}")]
    Handshake(String),
    /// A file cannot be used, though it could before.
    #[error("{0}")]
    Files(String),
}

impl Problem {
    /// Returns whether other credentials are needed, or another authority to trust.
    pub(crate) fn is_denial(&self) -> bool {
        matches!(self, Self::Certificate(_) | Self::Refused(_))
    }

    /// Returns what a failed read or write tells: with TLS 1.3 a server refuses a client after the handshake.
    pub(super) fn of_failure(error: &io::Error) -> Option<Self> {
        of_tls(error)
    }

    /// Returns what the first byte of an answer tells. A server of HTTP/2 begins with a frame of less than 64 KiB.
    pub(super) fn of_first_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => None,
            0x15 | 0x16 => Some(Self::WantsTls),
            b'H' => Some(Self::Http1),
            b'-' | b'+' => Some(Self::Redis),
            _ => Some(Self::Unknown),
        }
    }
}

/// What an error of a connection tells, if it is one of TLS.
#[cfg(feature = "tls")]
pub(super) fn of_tls(error: &io::Error) -> Option<Problem> {
    use rustls::AlertDescription as Alert;
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(_) => Problem::Certificate(error.to_string()),
        rustls::Error::InvalidMessage(_) => Problem::PlainText,
        rustls::Error::AlertReceived(
            Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateRequired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied,
        ) => Problem::Refused(error.to_string()),
        _ => Problem::Handshake(error.to_string()),
    })
}

#[cfg(not(feature = "tls"))]
pub(super) fn of_tls(_: &io::Error) -> Option<Problem> {
    None
}
