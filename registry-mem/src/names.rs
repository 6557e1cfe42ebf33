//! The named registries of this process.

use crate::shared::Shared;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

static NAMED: Mutex<Option<HashMap<String, Weak<Shared>>>> = Mutex::new(None);

/// Returns the registry of that name, or a `new` one if no handle to it exists.
pub(crate) fn find(name: &str, new: impl FnOnce() -> Arc<Shared>) -> Arc<Shared> {
    let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    let named = named.get_or_insert_default();
    if let Some(found) = named.get(name).and_then(Weak::upgrade) {
        return found;
    }
    named.retain(|_, shared| shared.strong_count() > 0);
    let shared = new();
    named.insert(name.to_owned(), Arc::downgrade(&shared));
    shared
}
