//! The listener of a proxy, which can be closed and reopened on the same port.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// The backlog of the listener, as in tokio's `TcpListener::bind`.
const BACKLOG: u32 = 1024;

/// The number of attempts to bind the port again.
const TRIES: usize = 100_000;

/// The listener, behind a lock so that it is closed once `close` returns.
#[derive(Debug)]
pub(super) struct Listener(Mutex<State>);

/// The socket that holds the port.
#[derive(Debug)]
pub(super) enum State {
    Open(TcpListener),
    /// Bound but not listening: the kernel refuses connections, and assigns the port to no other socket.
    Closed(TcpSocket),
    /// Neither, during a change and after a panic.
    Lost,
}

impl Listener {
    pub(super) async fn open() -> io::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        Ok((Self(Mutex::new(State::Open(listener))), address))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts the next connection, and evaluates `now` under the same lock.
    pub(super) async fn accept<T>(&self, now: impl Fn() -> T) -> io::Result<(TcpStream, T)> {
        poll_fn(|context| match &*self.lock() {
            State::Open(listener) => {
                listener.poll_accept(context).map_ok(|(client, _)| (client, now()))
            }
            _ => Poll::Pending,
        })
        .await
    }
}

impl State {
    /// Stops listening, and keeps the port. Returns whether it was open.
    pub(super) fn close(&mut self) -> bool {
        let Self::Open(listener) = &*self else { return false };
        let address = listener.local_addr().unwrap();
        // Drops the listener, so that its port can be bound again.
        *self = Self::Lost;
        *self = Self::Closed(bind(address));
        true
    }

    /// Listens again, on the same port.
    pub(super) fn open(&mut self) {
        match std::mem::replace(self, Self::Lost) {
            Self::Closed(socket) => {
                let listener = socket.listen(BACKLOG);
                *self =
                    Self::Open(listener.expect("another process may listen on the proxy's port"));
            }
            other => *self = other,
        }
    }

    /// Accepts and returns the pending connections. Asks the kernel, since tokio is notified of them later.
    pub(super) fn unaccepted(&self) -> Vec<StdStream> {
        let Self::Open(listener) = self else { return Vec::new() };
        let listener = StdListener::from(listener.as_fd().try_clone_to_owned().unwrap());
        std::iter::from_fn(|| listener.accept().ok()).map(|(client, _)| client).collect()
    }
}

/// Binds the port that was just closed.
fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    // Accepted connections still use the port.
    socket.set_reuseaddr(true).unwrap();
    for _ in 0..TRIES {
        match socket.bind(address) {
            Ok(()) => return socket,
            // A child process that another thread forks holds a copy of the listener until it execs.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => std::thread::yield_now(),
            Err(error) => {
                panic!("cannot bind the proxy's port again: address=`{address}`: {error}")
            }
        }
    }
    panic!("the proxy's port was taken: address=`{address}`")
}
