//! A TCP proxy between a registry and its server, to lose what should not be lost.

use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
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
#[derive(Clone, Debug, Default)]
struct Control {
    /// Counted up to end all those that stand.
    cuts: u64,
    /// Whether what the server says is thrown away.
    deaf: bool,
    /// What makes it so, in a request.
    trigger: Option<Vec<u8>>,
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

    /// Loses all replies from the first request on that contains `text`.
    pub fn lose_replies_from(&self, text: &str) {
        self.control.send_modify(|control| control.trigger = Some(text.into()));
    }

    /// Whether replies are being lost.
    pub fn loses_replies(&self) -> bool {
        self.control.borrow().deaf
    }

    /// Passes replies on again. Those lost stay lost, so that the connections are cut.
    pub fn heal(&self) {
        let healed = |control: &mut Control| {
            *control = Control { cuts: control.cuts + 1, ..Control::default() }
        };
        self.control.send_modify(healed);
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, control: watch::Sender<Control>) {
    let mut relays = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        relays.spawn(relay(client, server, control.clone()));
        while relays.try_join_next().is_some() {}
    }
}

/// Passes one connection on until either side ends it or it is cut.
async fn relay(client: TcpStream, server: SocketAddr, control: watch::Sender<Control>) {
    let mut ends = control.subscribe();
    let cuts = ends.borrow().cuts;
    let Ok(server) = TcpStream::connect(server).await else { return };
    // Both ends answer small messages at once, and so must what is between them.
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return;
    }
    let ((requests, to_client), (replies, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        () = pass(requests, to_server, |bytes| {
            control.send_if_modified(|control| {
                let found = |text: &Vec<u8>| bytes.windows(text.len()).any(|window| window == text);
                let loses = control.trigger.as_ref().is_some_and(found);
                control.deaf |= loses;
                loses
            });
            true
        }) => {}
        () = pass(replies, to_client, |_| {
            // One that is cut passes nothing more, whatever is healed meanwhile.
            let control = control.borrow();
            !control.deaf && control.cuts == cuts
        }) => {}
        _ = ends.wait_for(|control| control.cuts != cuts) => {}
    }
}

/// Passes on what comes one way, but for what `is_passed` looks at and refuses.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_passed: impl Fn(&[u8]) -> bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if is_passed(&buffer[..n]) && to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
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

        proxy.lose_replies_from("c");
        assert!(!proxy.loses_replies());
        client.write_all(b"c").await.unwrap();
        within(server.read_exact(&mut byte)).await.unwrap();
        assert_eq!(&byte, b"c", "requests arrive");
        assert!(proxy.loses_replies());
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
