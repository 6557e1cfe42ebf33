//! A connection to an endpoint.

use crate::context::ChannelContext;
use crate::link::{ConnectOnce, Link};
use crate::status;
use registry_core::Address;
use std::fmt;
use std::sync::Arc;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::{Channel, Error};

/// A connection to an endpoint. Calls that are under way outlive it.
pub(crate) struct Connection {
    pub(crate) address: Address,
    pub(crate) context: Arc<ChannelContext>,
    channel: Channel,
    link: Arc<Link>,
}

impl Connection {
    /// Connects, and waits for the server's first bytes.
    pub(crate) async fn open(
        address: &Address,
        context: &Arc<ChannelContext>,
    ) -> Result<Self, Status> {
        let options = &context.options;
        let endpoint = options.endpoint.make(address)?;
        let link = Arc::new(Link::new());
        let connector = ConnectOnce::new(&endpoint, link.clone());
        let limit = options.connect_timeout;
        let connecting = async {
            let channel = endpoint.connect_with_connector(connector).await?;
            link.heard().await;
            Ok::<_, Error>(channel)
        };
        let Ok(connected) = timeout(limit, connecting).await else {
            return Err(Status::unavailable(format!("no answer in time, within=`{limit:?}`")));
        };
        let channel = connected.map_err(|error| status::unreachable(error.into()))?;
        Ok(Self { address: address.clone(), context: context.clone(), channel, link })
    }

    /// Returns whether it stands, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        self.link.is_open()
    }

    /// It is known to be gone.
    pub(crate) fn lose(&self) {
        self.link.lose();
    }

    /// Waits until it is lost. For one task only.
    pub(crate) async fn lost(&self) {
        self.link.lost().await;
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = &self.address;
        f.debug_struct("Connection").field("address", address).finish_non_exhaustive()
    }
}
