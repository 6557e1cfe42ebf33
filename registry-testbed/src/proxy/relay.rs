//! One connection, from its client to its server.

use super::control::End;
use super::direction::{Direction, pass};
use super::link::{Link, wait_until_unfrozen};
use rustix::net::{RecvFlags, recv, sockopt};
use std::future::pending;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::net::TcpStream;

/// How much may be thrown away when a connection is closed: more than a kernel holds by default.
const UNREAD: usize = 1024;

/// Passes one connection on until either side ends it, or a fault does. A side that says that it
/// has no more to send ends it whole.
pub(super) async fn relay(mut client: TcpStream, server: SocketAddr, link: Link) {
    let mut connected = None;
    let end = tokio::select! {
        biased;
        end = link.ended() => end,
        end = pass_both(&mut client, server, &mut connected, &link) => end,
        never = link.count_freezes() => match never {},
    };
    link.counter.count(end);
    if end == End::Stranded {
        return pending().await; // with both sockets open
    }
    close(client, end);
    if let Some(server) = connected {
        close(server, end);
    }
}

/// Closes one side: with RST if it is reset, and with FIN otherwise.
pub(super) fn close(socket: impl AsFd, end: End) {
    if end == End::Reset {
        // If it fails the other side is gone already.
        let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
        return;
    }
    // The kernel sends RST if there is something unread.
    let mut buffer = [0; 16 * 1024];
    for _ in 0..UNREAD {
        let Ok((_, 1..)) = recv(&socket, &mut buffer, RecvFlags::DONTWAIT) else { return };
    }
}

/// Connects to the server, and relays both directions.
async fn pass_both(
    client: &mut TcpStream,
    server: SocketAddr,
    connected: &mut Option<TcpStream>,
    link: &Link,
) -> End {
    wait_until_unfrozen(&mut link.control.subscribe()).await;
    let Ok(server) = TcpStream::connect(server).await else { return End::Over };
    let server = connected.insert(server);
    // Both ends answer small messages at once, and so must what is between them.
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return End::Over;
    }
    // Not into owned halves, which say FIN when they are dropped, before a reset can.
    let ((requests, to_client), (replies, to_server)) = (client.split(), server.split());
    tokio::select! {
        end = pass(requests, to_server, link, Direction::Requests) => end,
        end = pass(replies, to_client, link, Direction::Replies) => end,
    }
}
