//! Forwards the connections of a listener to servers that a [`Route`] chooses.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Chooses the server for a connection.
pub(super) trait Route: Clone + Send + 'static {
    /// Connects to the server for a client at the address `from`.
    fn connect(
        &self,
        client: &mut TcpStream,
        from: SocketAddr,
    ) -> impl Future<Output = io::Result<TcpStream>> + Send;
}

/// Forwards all connections. Never returns.
pub(super) async fn forward(listener: TcpListener, route: impl Route) {
    /// The pause after a failed accept.
    const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(10);
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((client, from)) => {
                let route = route.clone();
                // An error closes both connections, so both sides notice it.
                connections.spawn(async move { forward_one(client, from, route).await.ok() });
            }
            Err(_) => sleep(ACCEPT_RETRY_DELAY).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn forward_one(mut client: TcpStream, from: SocketAddr, route: impl Route) -> io::Result<()> {
    let mut server = route.connect(&mut client, from).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}
