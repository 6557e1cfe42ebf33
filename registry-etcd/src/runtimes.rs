//! The connections of a registry: one set per tokio runtime.
//!
//! Connections and streams are served by tasks of the runtime on which they were opened. These end with the
//! runtime, and make no progress while nothing drives it. So a call uses the connections of its own runtime.

use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::options::EtcdOptions;
use crate::transport::Dial;
use crate::watch::Streams;
use registry_core::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::{Handle, Id};
use tokio::sync::watch;

/// The connections on one runtime. A clone is a handle to the same ones.
#[derive(Clone)]
pub(crate) struct Connections {
    pub(crate) client: Client,
    pub(crate) streams: Streams,
}

/// The connections on all runtimes. A clone shares them.
#[derive(Clone)]
pub(crate) struct Runtimes(Arc<Inner>);

struct Inner {
    endpoints: Arc<[Endpoint]>,
    dial: Dial,
    options: EtcdOptions,
    used: Mutex<Vec<Used>>,
}

/// A runtime and its connections.
struct Used {
    runtime: Id,
    /// Closed when the runtime shuts down, since a task on it owns the receiver.
    alive: watch::Sender<()>,
    connections: Connections,
}

impl Runtimes {
    pub(crate) fn new(endpoints: Vec<Endpoint>, dial: Dial, options: EtcdOptions) -> Self {
        let (endpoints, used) = (endpoints.into(), Mutex::default());
        Self(Arc::new(Inner { endpoints, dial, options, used }))
    }

    /// Returns the connections of the current runtime.
    ///
    /// # Errors
    ///
    /// `Invalid` outside of a runtime.
    pub(crate) fn connections(&self) -> Result<Connections> {
        let Ok(handle) = Handle::try_current() else {
            let message = "etcd is called outside a tokio runtime: call it within one";
            return Err(Error::new(ErrorKind::Invalid, message));
        };
        let Inner { endpoints, dial, options, used } = &*self.0;
        // The lock is held for a few assignments that cannot panic.
        let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
        let is_present = |used: &&Used| used.runtime == handle.id() && !used.alive.is_closed();
        if let Some(present) = used.iter().find(is_present) {
            return Ok(present.connections.clone());
        }
        used.retain(|used| !used.alive.is_closed());
        let (alive, mut registry) = watch::channel(());
        handle.spawn(async move {
            // Ends with an error when the registry is dropped.
            let _ = registry.changed().await;
        });
        let client = Client::new(endpoints.clone(), dial.clone(), options);
        let connections = Connections { client, streams: Streams::default() };
        used.push(Used { runtime: handle.id(), alive, connections: connections.clone() });
        Ok(connections)
    }

    /// Returns the members that the URL names.
    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        &self.0.endpoints
    }
}
