//! Channels to a target in text form.

use crate::store::{Discovery, DiscoveryOptions, Registry};
use crate::{Result, ServiceName, connectors};
use registry_tonic::{Channel, ChannelOptions, ChannelTarget};
use std::sync::Arc;

/// Connects a channel to a [`ChannelTarget`], such as one from a go-zero configuration.
///
/// The channel opens its own connection to the registry. To call several services of one registry, prefer
/// [`channel`](super::channel), which shares a client's connection. The function waits for the registry but not for an
/// endpoint; a call waits for an endpoint itself.
///
/// ```
/// use service_registry::grpc::{ChannelOptions, connect_channel};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> service_registry::Result<()> {
/// // Or etcd:///127.0.0.1:2379?key=user.rpc, or redis://127.0.0.1:6379?service=user.rpc
/// let target = "direct:///10.0.0.1:8080,10.0.0.2:8080".parse()?;
/// let channel = connect_channel(&target, ChannelOptions::default()).await?;
/// // let mut users = UserClient::new(channel);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Those of [`connect`](crate::connect).
///
/// # Panics
///
/// Outside of a tokio runtime.
pub async fn connect_channel(target: &ChannelTarget, options: ChannelOptions) -> Result<Channel> {
    match target {
        ChannelTarget::Direct(addresses) => Ok(Channel::fixed(addresses.iter().cloned(), options)),
        ChannelTarget::Service { registry, service } => {
            Ok(to_service(connectors::registry(registry).await?, service, options))
        }
    }
}

/// Returns a channel to `target` without sending a request. A call waits for the registry as it waits for an endpoint,
/// and fails at once if the registry refuses the credentials or the configuration.
///
/// # Errors
///
/// Those of [`ClientBuilder::connect_lazy`](crate::ClientBuilder::connect_lazy).
///
/// # Panics
///
/// Outside of a tokio runtime.
pub fn connect_channel_lazy(target: &ChannelTarget, options: ChannelOptions) -> Result<Channel> {
    match target {
        ChannelTarget::Direct(addresses) => Ok(Channel::fixed(addresses.iter().cloned(), options)),
        ChannelTarget::Service { registry, service } => {
            Ok(to_service(connectors::registry_lazy(registry)?, service, options))
        }
    }
}

fn to_service(
    registry: Arc<dyn Registry>,
    service: &ServiceName,
    options: ChannelOptions,
) -> Channel {
    let discovery = Discovery::new(registry, DiscoveryOptions::default());
    Channel::new(discovery.view(service), options)
}
