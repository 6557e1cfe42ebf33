//! The connections of a registry: a set for each tokio runtime that it is used on.
//!
//! Tasks of a runtime serve connections and streams. They end with their runtime, and stand still while nobody drives it.
//! So a call uses what was opened on its own runtime.

use crate::client::Client;
use crate::endpoint::Endpoint;
use crate::options::EtcdOptions;
use crate::transport::Dial;
use crate::watch::Streams;
use registry_core::{Error, ErrorKind, Result};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::{Handle, Id};
use tokio::sync::watch;

/// What calls on one runtime use. A clone is a handle to the same.
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

/// A runtime, and the connections on it.
struct Used {
    runtime: Id,
    /// Closed when the runtime is shut down: a task on it has the receiver.
    alive: watch::Sender<()>,
    connections: Connections,
}

impl Runtimes {
    pub(crate) fn new(endpoints: Vec<Endpoint>, dial: Dial, options: EtcdOptions) -> Self {
        let (endpoints, used) = (endpoints.into(), Mutex::default());
        Self(Arc::new(Inner { endpoints, dial, options, used }))
    }

    /// Returns the connections of the runtime that the caller is on.
    ///
    /// # Errors
    ///
    /// `Invalid` outside of a runtime.
    pub(crate) fn connections(&self) -> Result<Connections> {
        let Ok(handle) = Handle::try_current() else {
            let message = "etcd is called outside of a tokio runtime: call it on one";
            return Err(Error::new(ErrorKind::Invalid, message));
        };
        let Inner { endpoints, dial, options, used } = &*self.0;
        // Held for a few assignments, and nothing panics meanwhile.
        let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
        let is_present = |used: &&Used| used.runtime == handle.id() && !used.alive.is_closed();
        if let Some(present) = used.iter().find(is_present) {
            return Ok(present.connections.clone());
        }
        used.retain(|used| !used.alive.is_closed());
        let (alive, mut registry) = watch::channel(());
        handle.spawn(async move {
            // It fails when the registry is dropped.
            let _ = registry.changed().await;
        });
        let client = Client::new(endpoints.clone(), dial.clone(), options);
        let connections = Connections { client, streams: Streams::default() };
        used.push(Used { runtime: handle.id(), alive, connections: connections.clone() });
        Ok(connections)
    }

    /// The members that the URL names.
    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        &self.0.endpoints
    }
}
