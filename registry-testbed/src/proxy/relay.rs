//! A connection through the proxy.

use super::control::End;
use super::direction::{Direction, pass};
use super::link::{Link, wait_until_no_blackhole};
use rustix::net::{RecvFlags, recv, sockopt};
use std::future::pending;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::net::TcpStream;

/// The maximum number of reads that discard data before a close: more than the kernel buffers by default.
const UNREAD: usize = 1024;

/// Relays a connection until either side or a fault ends it. A half-close by one side ends the whole connection.
pub(super) async fn relay(mut client: TcpStream, server: SocketAddr, link: Link) {
    let mut connected = None;
    let end = tokio::select! {
        biased;
        end = link.wait_until_ended() => end,
        end = pass_both(&mut client, server, &mut connected, &link) => end,
        never = link.count_blackholes() => match never {},
    };
    link.counter.count(end);
    if end == End::Stranded {
        return pending().await; // keeps both sockets open
    }
    close(client, end);
    if let Some(server) = connected {
        close(server, end);
    }
}

/// Closes one side, with RST for a reset and FIN otherwise.
pub(super) fn close(socket: impl AsFd, end: End) {
    if end == End::Reset {
        // Fails only if the peer has already closed the connection.
        let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
        return;
    }
    // Discard unread data, since the kernel would send RST otherwise.
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
    wait_until_no_blackhole(&mut link.control.subscribe()).await;
    let Ok(server) = TcpStream::connect(server).await else { return End::Over };
    let server = connected.insert(server);
    // Small messages must not be delayed, as by the client and the server themselves.
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return End::Over;
    }
    // Borrowed halves: owned ones would send FIN on drop, before a reset.
    let ((requests, to_client), (replies, to_server)) = (client.split(), server.split());
    tokio::select! {
        end = pass(requests, to_server, link, Direction::Requests) => end,
        end = pass(replies, to_client, link, Direction::Replies) => end,
    }
}
