//! Reasons why a server is unusable, and what to do about them.

use std::io;

/// A server that is not the expected etcd.
#[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "some only occur with TLS"))]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    /// The server answered in plain text with a TLS alert.
    #[error("the server requires TLS: use `etcds://`")]
    WantsTls,
    /// The server closed the connection without answering the HTTP/2 preface. An etcd with TLS does that.
    #[error(
        "the server closed the connection before its first byte: use `etcds://` if it requires TLS; a proxy without a backend also does this"
    )]
    ClosedAtOnce,
    /// The server speaks HTTP/1.
    #[error("the server speaks HTTP/1, so it is no etcd: check host and port")]
    Http1,
    #[error("the server is a Redis, not an etcd: check host and port")]
    Redis,
    #[error("the server does not speak HTTP/2, so it is no etcd: check host and port")]
    Unknown,
    /// The server answered the TLS handshake in another protocol, or closed the connection.
    #[error("the server does not speak TLS: use `etcd://`, or check host and port")]
    PlainText,
    #[error(
        "the server closed the connection during the TLS handshake: it may speak plain text (use `etcd://`), or require a client certificate (set `cert` and `key`)"
    )]
    ClosedInHandshake,
    #[error(
        "{0}: check `ca`, and set `server_name` if the certificate has another name than the host"
    )]
    Certificate(String),
    /// The server refused the client certificate, or requires one.
    #[error("the server refused the client certificate, {0}: check `cert` and `key`")]
    Refused(String),
    #[error("the TLS handshake failed: {0}")]
    Handshake(String),
    /// A TLS file cannot be used any more.
    #[error("{0}")]
    Files(String),
}

impl Problem {
    /// Returns whether a retry needs other credentials or another trusted authority.
    pub(crate) fn is_denial(&self) -> bool {
        matches!(self, Self::Certificate(_) | Self::Refused(_))
    }

    /// Returns the problem behind a failed read or write. With TLS 1.3 a server may refuse the client after
    /// the handshake.
    pub(super) fn of_failure(error: &io::Error) -> Option<Self> {
        of_tls(error)
    }

    /// Returns the problem that the first byte reveals. HTTP/2 begins with a frame of less than 64 KiB, so with 0.
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

/// Returns the problem behind an I/O error, if it is a TLS error.
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
