//! The TLS files that a URL names.

use crate::{Error, ErrorKind, Result, Target};
use std::fmt;
use std::fs;

/// The PEM contents of the TLS files that the options `ca`, `cert` and `key` of a store's URL name.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct TlsFiles {
    /// The only certificate authority to trust. `None` means those of the system.
    pub ca: Option<Vec<u8>>,
    /// The client's certificate chain and its private key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl TlsFiles {
    /// Reads the files that `target` names.
    ///
    /// # Errors
    ///
    /// `Invalid` if a file cannot be read or does not contain the expected PEM block (the error names the option and
    /// the path), or if only one of `cert` and `key` is set.
    pub fn read(target: &Target) -> Result<Self> {
        let ca = target.option("ca").map(|path| certificates("ca", path)).transpose()?;
        let identity = match (target.option("cert"), target.option("key")) {
            (None, None) => None,
            (Some(cert), Some(key)) => {
                Some((certificates("cert", cert)?, pem("key", key, "PRIVATE KEY-----")?))
            }
            _ => {
                return Err(invalid(
                    "only one of the options `cert` and `key` is set: set both or none",
                ));
            }
        };
        Ok(Self { ca, identity })
    }
}

/// Shows only which files are set, so that it never shows the key.
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

/// Reads a PEM file that must contain `mark`. Without this check, a wrong file would fail at the first connection, if
/// at all.
fn pem(option: &str, path: &str, mark: &str) -> Result<Vec<u8>> {
    let text = fs::read(path).map_err(|error| {
        invalid(format!("the file of option `{option}` cannot be read, path=`{path}`"))
            .with_source(error)
    })?;
    if !text.windows(mark.len()).any(|part| part == mark.as_bytes()) {
        return Err(invalid(format!(
            "the file of option `{option}` is not PEM with `{mark}` in it, path=`{path}`"
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
            (format!("ca={none}"), "`ca` cannot be read"),
            (format!("ca={text}"), "`ca` is not PEM"),
            (format!("cert={ca}"), "only one of the options `cert` and `key`"),
            (format!("key={ca}"), "only one of the options `cert` and `key`"),
            (format!("cert={ca}&key={none}"), "`key` cannot be read"),
            (format!("cert={ca}&key={ca}"), "`key` is not PEM"),
            (format!("cert={text}&key={ca}"), "`cert` is not PEM"),
        ];
        for (query, hint) in cases {
            let target = format!("etcds://h?{query}").parse().unwrap();
            let error = TlsFiles::read(&target).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{query}");
            assert!(error.to_string().contains(hint), "{query}: {error}");
        }
    }
}
