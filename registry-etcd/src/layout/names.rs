//! Unescaped names in keys, as Go programs write them.

use registry_core::{InstanceId, ServiceName};

/// Parses an id. A key whose id would contain a `/` belongs to another service.
pub(super) fn id(text: &[u8]) -> Option<InstanceId> {
    InstanceId::new(str::from_utf8(text).ok()?).ok()
}

/// Parses the service and the id of `<service>/<id>`.
pub(super) fn service_and_id(names: &[u8]) -> Option<(ServiceName, InstanceId)> {
    let (name, id) = split(names)?;
    Some((service(name)?, id))
}

/// Splits `<service>/<id>` into the unparsed service and the id.
pub(super) fn split(names: &[u8]) -> Option<(&[u8], InstanceId)> {
    let slash = names.iter().rposition(|byte| *byte == b'/')?;
    Some((&names[..slash], id(&names[slash + 1..])?))
}

/// Parses a service name.
pub(super) fn service(text: &[u8]) -> Option<ServiceName> {
    ServiceName::new(str::from_utf8(text).ok()?).ok()
}

/// Returns the prefix of all keys for the path of a URL. Without a path it is empty, and a path of slashes is
/// used as it is.
pub(super) fn root(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" => path.to_owned(),
        path => format!("{path}/"),
    }
}
