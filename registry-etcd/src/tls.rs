//! Whom to trust, and who we are, from the options of a URL.

use etcd_client::{Certificate, Identity, TlsOptions};
use registry_core::{Error, ErrorKind, Result, Target};
use std::fs;

/// Without a `ca` the roots of the system are trusted, with one nobody else is.
pub(crate) fn options(target: &Target) -> Result<TlsOptions> {
    let mut tls = match target.option("ca") {
        Some(path) => {
            TlsOptions::new().ca_certificate(Certificate::from_pem(certificates("ca", path)?))
        }
        None => TlsOptions::new().with_native_roots(),
    };
    match (target.option("cert"), target.option("key")) {
        (None, None) => {}
        (Some(cert), Some(key)) => {
            let key = pem("key", key, "PRIVATE KEY-----")?;
            tls = tls.identity(Identity::from_pem(certificates("cert", cert)?, key));
        }
        _ => {
            return Err(invalid(
                "a client has both of a certificate and its key: `cert` and `key`",
            ));
        }
    }
    if let Some(name) = target.option("server_name") {
        tls = tls.domain_name(name);
    }
    Ok(tls)
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
    fn a_file_that_is_wrong_is_said_by_its_option_and_path() {
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
            (format!("cert={text}&key={ca}"), "`key` names a file in PEM"),
        ];
        for (query, hint) in cases {
            let target = format!("etcds://h?{query}").parse().unwrap();
            let error = options(&target).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{query}");
            assert!(error.to_string().contains(hint), "{query}: {error}");
        }
    }
}
