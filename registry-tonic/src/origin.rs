//! Where a view looked for its service.

use percent_encoding::percent_decode_str;
use registry_core::Cursor;

/// Returns the store and the scope (such as layout and prefix) that `cursor` belongs to, for a
/// message. `None` if the text of the cursor is of a later version.
pub(crate) fn describe(cursor: &Cursor) -> Option<String> {
    // The text of a cursor is `1:store:scope:service:revision:proof`.
    let text = cursor.to_string();
    let mut fields = text.strip_prefix("1:")?.split(':');
    let mut field = || percent_decode_str(fields.next()?).decode_utf8().ok();
    let (store, scope) = (field()?, field()?);
    Some(format!("store=`{store}`, scope=`{scope}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use registry_core::{Origin, Revision};

    #[test]
    fn message_names_the_store_and_the_scope() {
        let origin = Origin::new("etcd", "native:a b/", &"user.rpc".parse().unwrap());
        let cursor = origin.cursor(Revision::new(7), "p");
        assert_eq!(describe(&cursor).unwrap(), "store=`etcd`, scope=`native:a b/`");
    }
}
