//! Service names that can be read but not registered.

use crate::{Error, ErrorKind, Result, ServiceName};

/// The service of the self-test of a store: the only reserved name in use.
pub(crate) const SELF_TEST: &str = "~doctor";

impl ServiceName {
    /// Checks whether stores register instances under this name. A reader may still find such a name in a store,
    /// written by an earlier release or another program.
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
    /// `Invalid` if a segment between slashes is empty, `.` or `..`: programs that treat keys as paths would resolve it
    /// to another service. `Invalid` if the name begins with `~`, which is reserved for this library.
    pub fn check_new(&self) -> Result<()> {
        let name = self.as_str();
        let is_dots = |segment: &str| matches!(segment, "" | "." | "..");
        let is_path = if name.contains('/') { name.split('/').any(is_dots) } else { is_dots(name) };
        let why = if is_path {
            "the service name has an empty segment, `.` or `..`"
        } else if name.starts_with('~') && name != SELF_TEST {
            "the service name begins with `~`, which is reserved"
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Invalid, format!("{why}, got=`{self}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `users/../x` and `a//b` could be registered, although programs that treat keys as paths resolve them to other
    /// keys.
    #[test]
    fn path_like_and_reserved_names_are_readable_but_cannot_be_registered() {
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
            ["user.rpc", "prod/order.rpc", "...", "a/..b", ".hidden", "a~b", "a/~b", SELF_TEST];
        for good in good {
            ServiceName::new(good).unwrap().check_new().unwrap();
        }
        // The leading slashes of a key are not part of the service name.
        let (_, name) = ServiceName::from_key("//grpc/user.rpc").unwrap();
        name.check_new().unwrap();
    }
}
