//! What the servers of the mall have in common: a listener, and how they are announced.

use crate::store::Store;
use anyhow::{Context, Result};
use futures_util::future::BoxFuture;
use service_registry::serve::ServeOptions;
use service_registry::{BoxError, Instance, LeaseId, RegistrationOptions, Registry};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// The metadata that says what a server is called.
const NAME: &str = "name";

/// What ends a server.
pub(crate) enum End {
    /// SIGTERM or SIGINT. Whoever started it is told where it is called.
    BySignal,
    /// Whoever runs it within a process.
    ByOwner(oneshot::Receiver<()>),
}

/// Where a server is about to be called.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) instance: Instance,
    pub(crate) options: ServeOptions,
}

impl Door {
    pub(crate) async fn open(
        store: &Store,
        service: &str,
        listen: &str,
        name: &str,
        end: End,
    ) -> Result<Self> {
        let listener = TcpListener::bind(listen).await;
        let listener = listener.with_context(|| format!("cannot listen, address=`{listen}`"))?;
        let address = listener.local_addr()?.to_string().parse()?;
        // The id is the lease in decimal: any layout takes that, and go-zero's takes nothing else.
        let lease = LeaseId::random();
        let instance = Instance::new(service.parse()?, lease.to_string().parse()?, address)
            .with_metadata([(NAME, name)])?;
        let registration = RegistrationOptions {
            ttl: Some(store.ttl()),
            lease: Some(lease),
            ..RegistrationOptions::default()
        };
        let (signals, shutdown) = match end {
            End::BySignal => (true, None),
            End::ByOwner(told) => (false, Some(told)),
        };
        let options = ServeOptions {
            registration,
            signals,
            shutdown: shutdown.map(|told| Box::pin(async { drop(told.await) }) as _),
            ..ServeOptions::default()
        };
        Ok(Self { listener, registry: store.connect().await?, instance, options })
    }

    /// It is ready after `first`.
    pub(crate) fn ready(
        &self,
        first: impl Future<Output = ()> + Send + 'static,
    ) -> BoxFuture<'static, Result<(), BoxError>> {
        let line = format!("{} is called at {}", name(&self.instance), self.instance.address());
        let is_told = self.options.signals;
        Box::pin(async move {
            first.await;
            if is_told {
                println!("{line}");
            }
            Ok(())
        })
    }
}

/// What a server is called: by its metadata, or else by its id.
pub(crate) fn name(instance: &Instance) -> &str {
    instance.metadata().get(NAME).map_or_else(|| instance.id().as_str(), String::as_str)
}
