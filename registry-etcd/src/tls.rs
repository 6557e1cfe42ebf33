//! Whom to trust, and who we are, from the options of a URL.

use etcd_client::{Certificate, Identity, TlsOptions};
use registry_core::{Result, Target, TlsFiles};

/// Without a `ca` the roots of the system are trusted, with one nobody else is.
pub(crate) fn options(target: &Target) -> Result<TlsOptions> {
    let files = TlsFiles::read(target)?;
    let mut tls = match files.ca {
        Some(ca) => TlsOptions::new().ca_certificate(Certificate::from_pem(ca)),
        None => TlsOptions::new().with_native_roots(),
    };
    if let Some((certificate, key)) = files.identity {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    if let Some(name) = target.option("server_name") {
        tls = tls.domain_name(name);
    }
    Ok(tls)
}
