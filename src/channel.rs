//! From a URL to a channel.

use crate::grpc::{Channel, ChannelOptions, ChannelTarget};
use crate::{Discovery, DiscoveryOptions, Result, connect_target};

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
            let registry = connect_target(registry).await?;
            let discovery = Discovery::new(registry, DiscoveryOptions::default());
            Ok(Channel::new(discovery.view(service), options))
        }
    }
}
