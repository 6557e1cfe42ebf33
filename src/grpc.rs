//! gRPC: tonic channels that balance calls over the instances of a service.

mod connect;

pub use self::connect::{connect_channel, connect_channel_lazy};
pub use registry_tonic::*;

use crate::View;

/// Returns a channel to the instances of `view`. Any client that tonic generates works over it.
///
/// The channel uses the registry connection of the view's client. It uses the zone of the view unless `options` set
/// one, and the ejection settings of `options`.
///
/// ```
/// use service_registry::connect;
/// use service_registry::grpc::{ChannelOptions, channel};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> service_registry::Result<()> {
/// let client = connect("mem://demo").await?; // or etcd://127.0.0.1:2379, redis://127.0.0.1:6379
/// let channel = channel(&client.discover("user.rpc")?, ChannelOptions::default());
/// // let mut users = UserClient::new(channel);
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// Outside of a tokio runtime.
pub fn channel(view: &View, mut options: ChannelOptions) -> Channel {
    let (view, zone) = view.parts();
    options.zone = options.zone.or_else(|| zone.map(str::to_owned));
    Channel::new(view.clone(), options)
}
