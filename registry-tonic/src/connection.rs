//! A connection to an endpoint.

use crate::connector::{ConnectOnce, ConnectionState};
use crate::context::ChannelContext;
use crate::status;
use registry_core::Address;
use std::fmt;
use std::sync::Arc;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::{Channel, Error};

/// A connection to an endpoint. Calls in flight keep the connection open after this is dropped.
pub(crate) struct Connection {
    pub(crate) address: Address,
    pub(crate) context: Arc<ChannelContext>,
    channel: Channel,
    state: Arc<ConnectionState>,
}

impl Connection {
    /// Connects, and waits for the server's first bytes.
    pub(crate) async fn open(
        address: &Address,
        context: &Arc<ChannelContext>,
    ) -> Result<Self, Status> {
        let options = &context.options;
        let endpoint = options.endpoint.make(address)?;
        let state = Arc::new(ConnectionState::new());
        let connector = ConnectOnce::new(&endpoint, state.clone());
        let limit = options.connect_timeout;
        let connecting = async {
            let channel = endpoint.connect_with_connector(connector).await?;
            state.wait_for_first_read().await;
            Ok::<_, Error>(channel)
        };
        let Ok(connected) = timeout(limit, connecting).await else {
            return Err(Status::unavailable(format!(
                "the server did not answer in time, connect_timeout=`{limit:?}`"
            )));
        };
        let channel = connected.map_err(|error| status::connect_error(error.into()))?;
        Ok(Self { address: address.clone(), context: context.clone(), channel, state })
    }

    /// Returns false once the connection is known to be lost.
    pub(crate) fn is_open(&self) -> bool {
        self.state.is_open()
    }

    pub(crate) fn set_lost(&self) {
        self.state.set_lost();
    }

    /// Waits until the connection is lost. Only one task may wait.
    pub(crate) async fn wait_until_lost(&self) {
        self.state.wait_until_lost().await;
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
