//! The built-in layouts, by name.

use super::go_zero::GoZero;
use super::grpc::Grpc;
use super::kitex::Kitex;
use super::kratos::Kratos;
use super::native::Native;
use super::public::{PublicForm, PublicLayout};
use super::{Layout, go_zero, kitex, kratos, names, native, side};
use registry_core::encoding;
use registry_core::{Error, ErrorKind, Result, Target};
use std::sync::Arc;

/// The layout that a URL names in its option `layout`, native by default, under its path.
pub(crate) fn from_target(target: &Target) -> Result<Arc<dyn Layout>> {
    let path = target.path();
    match target.option("layout").unwrap_or(native::NAME) {
        native::NAME => Ok(Arc::new(Native::new(path))),
        GoZero::NAME => Ok(Arc::new(PublicLayout::<GoZero>::new(path))),
        Grpc::NAME => Ok(Arc::new(PublicLayout::<Grpc>::new(path))),
        Kratos::NAME => Ok(Arc::new(PublicLayout::<Kratos>::new(path))),
        Kitex::NAME => Ok(Arc::new(PublicLayout::<Kitex>::new(path))),
        name => {
            let message =
                format!("layout is `native`, `go-zero`, `grpc`, `kratos` or `kitex`, got=`{name}`");
            Err(Error::new(ErrorKind::Invalid, message))
        }
    }
}

/// The name of the built-in layout that a record has, whatever root its key has. A side record tells none.
pub(crate) fn detect(key: &[u8], value: &[u8]) -> Option<&'static str> {
    if kratos::is_record(key, value) {
        return Some(Kratos::NAME); // its keys may begin with a slash
    }
    let (service, id) = names::service_and_id(key)?;
    if side::is_side(&service) {
        None
    } else if kitex::is_record(value) {
        Some(Kitex::NAME) // it has an address, as a native one
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

/// Whether `name` is the layout of a URL that states none.
pub(crate) fn is_default(name: &str) -> bool {
    name == native::NAME
}
