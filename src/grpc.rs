//! gRPC: channels of tonic that are balanced over a service.

mod connect;

pub use self::connect::{connect_channel, connect_channel_lazy};
pub use registry_tonic::*;

use crate::View;

/// Returns a channel to the instances of `view`: any generated client of tonic works over it. It shares the connection of
/// the view's client. It has the zone of the view, unless `options` have one; ejection is that of `options`.
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
