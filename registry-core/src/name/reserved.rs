//! The names that a service may be found under, and that no new one is registered under.

use crate::{Error, ErrorKind, Result, ServiceName};

/// The service that a self-test of a store registers under, the only reserved name in use.
pub(crate) const REHEARSAL: &str = "~doctor";

impl ServiceName {
    /// Checks what a store refuses to register, which a reader may find in a store nevertheless: an older release, or
    /// another program, may have written it.
    ///
    /// ```
    /// use registry_core::ServiceName;
    ///
    /// # fn main() -> registry_core::Result<()> {
    /// assert!(ServiceName::new("prod/user.rpc")?.check_new().is_ok());
    /// assert!(ServiceName::new("prod/../user.rpc")?.check_new().is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Invalid` if a segment between slashes is empty, `.` or `..`, which programs that take keys for paths resolve to
    /// another service; or if the name begins with `~`, which is reserved for this library.
    pub fn check_new(&self) -> Result<()> {
        let name = self.as_str();
        let is_dots = |segment: &str| matches!(segment, "" | "." | "..");
        let is_path = if name.contains('/') { name.split('/').any(is_dots) } else { is_dots(name) };
        let why = if is_path {
            "a service name has no empty segment, `.` or `..` between its slashes"
        } else if name.starts_with('~') && name != REHEARSAL {
            "a service name does not begin with `~`, which is reserved"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Invalid, format!("{why}, got=`{self}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `users/../x` and `a//b` were registered, and are other keys to whoever takes keys for paths.
    #[test]
    fn a_name_that_is_a_path_or_reserved_is_read_and_not_registered() {
        let bad = [
            "a//b",
            "a///b",
            "users/../x",
            "../x",
            "a/.",
            "..",
            ".",
            "a/./b",
            "~pulse",
            "~doctor/a",
            "~",
        ];
        for bad in bad {
            let name = ServiceName::new(bad).unwrap();
            let error = name.check_new().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
            assert!(error.to_string().ends_with(&format!("got=`{bad}`")), "{error}");
        }
        let good =
            ["user.rpc", "prod/order.rpc", "...", "a/..b", ".hidden", "a~b", "a/~b", REHEARSAL];
        for good in good {
            ServiceName::new(good).unwrap().check_new().unwrap();
        }
        // The slashes in front of a key are the store's.
        let (_, name) = ServiceName::from_key("//grpc/user.rpc").unwrap();
        name.check_new().unwrap();
    }
}
