//! A TCP proxy between a registry and its server, to lose what should not be lost.

use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A listener on loopback that passes every connection on to a server. Dropping it ends them all.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    control: watch::Sender<Control>,
    _relays: JoinSet<()>,
}

/// What happens to the connections.
#[derive(Clone, Copy, Debug, Default)]
struct Control {
    /// Counted up to end all those that stand.
    cuts: u64,
    /// Whether what the server says is thrown away.
    deaf: bool,
}

impl Proxy {
    /// Starts to pass connections on to `server`.
    ///
    /// # Errors
    ///
    /// If no port on loopback is free.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let control = watch::Sender::new(Control::default());
        let mut relays = JoinSet::new();
        relays.spawn(accept(listener, server, control.clone()));
        Ok(Self { address, control, _relays: relays })
    }

    /// Where to connect to instead of the server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections. New ones are passed on.
    pub fn cut(&self) {
        self.control.send_modify(|control| control.cuts += 1);
    }

    /// From now on requests reach the server, and its replies reach nobody.
    pub fn lose_replies(&self) {
        self.control.send_modify(|control| control.deaf = true);
    }

    /// Passes replies on again. Those lost stay lost, so that the connections are cut.
    pub fn heal(&self) {
        self.control
            .send_modify(|control| *control = Control { cuts: control.cuts + 1, deaf: false });
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, control: watch::Sender<Control>) {
    let mut relays = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        relays.spawn(relay(client, server, control.subscribe()));
        while relays.try_join_next().is_some() {}
    }
}

/// Passes one connection on until either side ends it or it is cut.
async fn relay(client: TcpStream, server: SocketAddr, mut control: watch::Receiver<Control>) {
    let cuts = control.borrow().cuts;
    let Ok(server) = TcpStream::connect(server).await else { return };
    // Both ends answer small messages at once, and so must what is between them.
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return;
    }
    let ((mut requests, mut to_client), (mut replies, mut to_server)) =
        (client.into_split(), server.into_split());
    let faults = control.clone();
    tokio::select! {
        _ = copy(&mut requests, &mut to_server) => {}
        () = async {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(n @ 1..) = replies.read(&mut buffer).await {
                // One that is cut passes nothing more, whatever is healed meanwhile.
                let Control { cuts: now, deaf } = *faults.borrow();
                let lost = deaf || now != cuts;
                if !lost && to_client.write_all(&buffer[..n]).await.is_err() {
                    return;
                }
            }
        } => {}
        _ = control.wait_for(|control| control.cuts != cuts) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::within;

    #[tokio::test]
    async fn a_proxy_passes_loses_and_cuts() {
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(echo.local_addr().unwrap()).await.unwrap();
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut server, _) = within(echo.accept()).await.unwrap();
        let mut byte = [0];

        client.write_all(b"a").await.unwrap();
        within(server.read_exact(&mut byte)).await.unwrap();
        server.write_all(b"b").await.unwrap();
        within(client.read_exact(&mut byte)).await.unwrap();
        assert_eq!(&byte, b"b");

        proxy.lose_replies();
        client.write_all(b"c").await.unwrap();
        within(server.read_exact(&mut byte)).await.unwrap();
        assert_eq!(&byte, b"c", "requests arrive");
        server.write_all(b"d").await.unwrap();
        proxy.heal();
        assert_eq!(
            within(client.read(&mut byte)).await.unwrap_or(0),
            0,
            "the reply is lost, and it is cut"
        );
        assert!(within(TcpStream::connect(proxy.address())).await.is_ok());
    }
}
