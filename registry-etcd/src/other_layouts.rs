//! Detects a service that is registered under another layout. Its servers and callers then use different
//! URLs, and nothing else reveals that.

use crate::client::Client;
use crate::layout::builtin;
use crate::layout::keyspace::Keyspace;
use etcd_client::GetOptions;
use registry_core::ServiceName;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The limit of services that are checked.
const MAX_CHECKED: usize = 1000;

/// The services that were checked. A clone shares them.
#[derive(Clone, Debug, Default)]
pub(crate) struct OtherLayoutCheck(Arc<Mutex<HashSet<ServiceName>>>);

impl OtherLayoutCheck {
    /// Checks in the background whether `service`, which has no key in `keyspace`, has one in another built-in
    /// layout. If so, logs a warning. Without permission or an answer, nothing is logged. Checks each service once.
    pub(crate) fn check(&self, client: &Client, keyspace: &Keyspace, service: &ServiceName) {
        let mut checked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.len() >= MAX_CHECKED || !checked.insert(service.clone()) {
            return;
        }
        drop(checked);
        let (client, service) = (client.clone(), service.clone());
        let own = keyspace.layout().name().to_owned();
        let prefixes = builtin::prefixes(keyspace.layout(), &service);
        tokio::spawn(async move {
            for prefix in prefixes {
                let first = GetOptions::new().with_prefix().with_limit(1).with_serializable();
                let Ok(mut found) = client.range(prefix, first).await else { return };
                let kvs = found.take_kvs();
                let layout = kvs.first().and_then(|kv| builtin::detect(kv.key(), kv.value()));
                // The same layout under another path may be intended.
                if let Some(layout) = layout.filter(|layout| *layout != own) {
                    tracing::warn!(
                        %service, layout = %own, found_in = layout,
                        "the service has no instance in the layout of this URL, but keys in another layout: \
                         use the same `layout` for its servers and callers"
                    );
                    return;
                }
            }
        });
    }
}
