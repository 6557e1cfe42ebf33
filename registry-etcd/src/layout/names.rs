//! Names that stand in keys as they are, as Go programs write them.

use registry_core::{InstanceId, ServiceName};

/// The id that is written as `text`. No id contains a `/`: such a key is one of another service.
pub(super) fn id(text: &[u8]) -> Option<InstanceId> {
    InstanceId::new(str::from_utf8(text).ok()?).ok()
}

/// The service and the id in `<service>/<id>`.
pub(super) fn service_and_id(names: &[u8]) -> Option<(ServiceName, InstanceId)> {
    let (name, id) = split(names)?;
    Some((service(name)?, id))
}

/// What stands before the id in `<service>/<id>`, and the id.
pub(super) fn split(names: &[u8]) -> Option<(&[u8], InstanceId)> {
    let slash = names.iter().rposition(|byte| *byte == b'/')?;
    Some((&names[..slash], id(&names[slash + 1..])?))
}

/// The service that is written as `text`.
pub(super) fn service(text: &[u8]) -> Option<ServiceName> {
    ServiceName::new(str::from_utf8(text).ok()?).ok()
}

/// The root that keys have under the path of a URL: those of Go programs start at the top of etcd, or
/// with the slashes that the path consists of.
pub(super) fn root(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" => path.to_owned(),
        path => format!("{path}/"),
    }
}
