//! The built-in layouts, by name.

use super::go_zero::GoZero;
use super::grpc::Grpc;
use super::kitex::Kitex;
use super::kratos::Kratos;
use super::native::Native;
use super::public::{PublicForm, PublicLayout};
use super::{Layout, go_zero, kitex, kratos, names, native, side};
use registry_core::encoding;
use registry_core::{Error, ErrorKind, Result, ServiceName, Target};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Returns the layout that the URL's option `layout` names, native by default, with the URL's path.
pub(crate) fn from_target(target: &Target) -> Result<Arc<dyn Layout>> {
    let path = target.path();
    match target.option("layout").unwrap_or(native::NAME) {
        native::NAME => Ok(Arc::new(Native::new(path))),
        GoZero::NAME => Ok(Arc::new(PublicLayout::<GoZero>::new(path))),
        Grpc::NAME => Ok(Arc::new(PublicLayout::<Grpc>::new(path))),
        Kratos::NAME => Ok(Arc::new(PublicLayout::<Kratos>::new(path))),
        Kitex::NAME => Ok(Arc::new(PublicLayout::<Kitex>::new(path))),
        name => {
            let message = format!(
                "option `layout` must be `native`, `go-zero`, `grpc`, `kratos` or `kitex`, got=`{name}`"
            );
            Err(Error::new(ErrorKind::Invalid, message))
        }
    }
}

/// Returns the key prefixes of `service` in the built-in layouts with their default paths, except that of the
/// layout `own`.
pub(crate) fn prefixes(own: &dyn Layout, service: &ServiceName) -> BTreeSet<String> {
    let layouts: [Arc<dyn Layout>; 5] = [
        Arc::new(Native::new("")),
        Arc::new(PublicLayout::<GoZero>::new("")),
        Arc::new(PublicLayout::<Grpc>::new("")),
        Arc::new(PublicLayout::<Kratos>::new("")),
        Arc::new(PublicLayout::<Kitex>::new("")),
    ];
    let prefix = |layout: &dyn Layout| Some(layout.keys(service).ok()?.prefix().to_owned());
    let mut prefixes: BTreeSet<_> = layouts.iter().filter_map(|layout| prefix(&**layout)).collect();
    if let Some(own) = prefix(own) {
        prefixes.remove(&own);
    }
    prefixes
}

/// Returns the name of the built-in layout of a record, under any path; `None` for a side record.
pub(crate) fn detect(key: &[u8], value: &[u8]) -> Option<&'static str> {
    if kratos::is_record(key, value) {
        return Some(Kratos::NAME); // first, since its keys may begin with a slash
    }
    let (service, id) = names::service_and_id(key)?;
    if side::is_side(&service) {
        None
    } else if kitex::is_record(value) {
        Some(Kitex::NAME) // before native, since both have an address
    } else if encoding::decode(&service, &id, value).is_ok() {
        Some(native::NAME)
    } else if Grpc::decode(&service, &id, value).is_ok_and(|instance| instance.is_some()) {
        Some(Grpc::NAME)
    } else if go_zero::is_lease_id(id.as_str()) && go_zero::decode_address(value).is_ok() {
        Some(GoZero::NAME)
    } else {
        None
    }
}

/// Returns whether `name` is the default layout of a URL.
pub(crate) fn is_default(name: &str) -> bool {
    name == native::NAME
}
