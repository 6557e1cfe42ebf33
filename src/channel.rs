//! From a URL to a channel.

use crate::grpc::{Channel, ChannelOptions, ChannelTarget};
use crate::{
    Discovery, DiscoveryOptions, Registry, Result, ServiceName, connect_target, connect_target_lazy,
};
use std::sync::Arc;

/// Connects a channel to what `target` names: [`connect_channel_target`], from its text.
///
/// ```
/// use service_registry::connect_channel;
/// use service_registry::grpc::ChannelOptions;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> service_registry::Result<()> {
/// // Or etcd:///127.0.0.1:2379?key=user.rpc, or redis://127.0.0.1:6379?service=user.rpc
/// let target = "direct:///10.0.0.1:8080,10.0.0.2:8080";
/// let channel = connect_channel(target, ChannelOptions::default()).await?;
/// // let mut client = UserClient::new(channel);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// `Invalid` if `target` is no [`ChannelTarget`], and as [`connect_channel_target`].
///
/// # Panics
///
/// Outside of a tokio runtime.
pub async fn connect_channel(target: &str, options: ChannelOptions) -> Result<Channel> {
    connect_channel_target(&target.parse()?, options).await
}

/// Connects a channel to a target.
///
/// It waits for the registry, and not for an endpoint: for that a call waits by itself. Each time it makes
/// a [`Discovery`] of its own; who has several services in one registry, or one on `mem://`, shares a
/// `Discovery` and makes each [`Channel`] from a view.
///
/// # Errors
///
/// Those of [`connect_target`].
///
/// # Panics
///
/// Outside of a tokio runtime.
pub async fn connect_channel_target(
    target: &ChannelTarget,
    options: ChannelOptions,
) -> Result<Channel> {
    match target {
        ChannelTarget::Direct(addresses) => Ok(Channel::fixed(addresses.iter().cloned(), options)),
        ChannelTarget::Service { registry, service } => {
            Ok(to_service(connect_target(registry).await?, service, options))
        }
    }
}

/// Returns a channel to what `target` names, without a request: [`connect_channel_target_lazy`], from its text.
///
/// ```
/// use service_registry::connect_channel_lazy;
/// use service_registry::grpc::ChannelOptions;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> service_registry::Result<()> {
/// // Or etcd:///127.0.0.1:2379?key=user.rpc, whether or not it answers
/// let channel = connect_channel_lazy("mem://?service=user.rpc", ChannelOptions::default())?;
/// // let mut client = UserClient::new(channel);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// `Invalid` if `target` is no [`ChannelTarget`], and as [`connect_channel_target_lazy`].
///
/// # Panics
///
/// Outside of a tokio runtime.
pub fn connect_channel_lazy(target: &str, options: ChannelOptions) -> Result<Channel> {
    connect_channel_target_lazy(&target.parse()?, options)
}

/// Returns a channel to a target without a request. A call waits for the registry as it waits for an endpoint, and fails
/// at once if the registry refuses the credentials or the configuration.
///
/// # Errors
///
/// Those of [`connect_target_lazy`].
///
/// # Panics
///
/// Outside of a tokio runtime.
pub fn connect_channel_target_lazy(
    target: &ChannelTarget,
    options: ChannelOptions,
) -> Result<Channel> {
    match target {
        ChannelTarget::Direct(addresses) => Ok(Channel::fixed(addresses.iter().cloned(), options)),
        ChannelTarget::Service { registry, service } => {
            Ok(to_service(connect_target_lazy(registry)?, service, options))
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
