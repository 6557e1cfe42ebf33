//! Whom to trust, and who we are: the files that a URL names.

use crate::{Error, ErrorKind, Result, Target};
use std::fmt;
use std::fs;

/// What a store needs for TLS, in PEM, read from the files that the options `ca`, `cert` and `key` of its
/// URL name.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct TlsFiles {
    /// The only authority to trust; without one, those of the system.
    pub ca: Option<Vec<u8>>,
    /// Our certificate, with those that lead to its authority, and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl TlsFiles {
    /// Reads what `target` names.
    ///
    /// # Errors
    ///
    /// `Invalid`, with the option and its path: a file cannot be read, is not in PEM or holds something
    /// else, or there is a certificate without a key, or a key without one.
    pub fn read(target: &Target) -> Result<Self> {
        let ca = target.option("ca").map(|path| certificates("ca", path)).transpose()?;
        let identity = match (target.option("cert"), target.option("key")) {
            (None, None) => None,
            (Some(cert), Some(key)) => {
                Some((certificates("cert", cert)?, pem("key", key, "PRIVATE KEY-----")?))
            }
            _ => {
                return Err(invalid(
                    "a client has both of a certificate and its key: `cert` and `key`",
                ));
            }
        };
        Ok(Self { ca, identity })
    }
}

/// Leaves out the key.
impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsFiles")
            .field("ca", &self.ca.is_some())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

fn certificates(option: &str, path: &str) -> Result<Vec<u8>> {
    pem(option, path, "-----BEGIN CERTIFICATE-----")
}

/// Reads a file in PEM. What has no `mark` in it would otherwise be noticed at the first connection, if
/// at all.
fn pem(option: &str, path: &str, mark: &str) -> Result<Vec<u8>> {
    let text = fs::read(path).map_err(|error| {
        invalid(format!("option `{option}` names a file to read, path=`{path}`")).with_source(error)
    })?;
    if !text.windows(mark.len()).any(|part| part == mark.as_bytes()) {
        return Err(invalid(format!(
            "option `{option}` names a file in PEM, with a line of `{mark}`, path=`{path}`"
        )));
    }
    Ok(text)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_option_and_the_path_of_a_wrong_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("text"), "no certificate").unwrap();
        fs::write(path("ca.pem"), "-----BEGIN CERTIFICATE-----\n").unwrap();
        let (none, text, ca) = (path("none"), path("text"), path("ca.pem"));
        let cases = [
            (format!("ca={none}"), "`ca` names a file to read"),
            (format!("ca={text}"), "`ca` names a file in PEM"),
            (format!("cert={ca}"), "both of a certificate and its key"),
            (format!("key={ca}"), "both of a certificate and its key"),
            (format!("cert={ca}&key={none}"), "`key` names a file to read"),
            (format!("cert={ca}&key={ca}"), "`key` names a file in PEM"),
            (format!("cert={text}&key={ca}"), "`cert` names a file in PEM"),
        ];
        for (query, hint) in cases {
            let target = format!("etcds://h?{query}").parse().unwrap();
            let error = TlsFiles::read(&target).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{query}");
            assert!(error.to_string().contains(hint), "{query}: {error}");
        }
    }
}
