//! A server as small as can be: each connection is a task, and one that was accepted is completed.

use service_registry::serve::{Connection, Listener, Shutdown};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Its slow page: `asked` is notified when it is requested, and it is answered at `let_go`.
#[derive(Clone, Default)]
pub(crate) struct Slow {
    pub(crate) asked: Arc<Notify>,
    pub(crate) let_go: Arc<Notify>,
}

/// Answers `/slow` with `done` when it is let go, and anything else with `hello`, until it is shut down.
pub(crate) async fn run(
    mut listener: Listener,
    mut shutdown: Shutdown,
    slow: Slow,
) -> io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                connections.spawn(answer(accepted.0, slow.clone()));
            }
            () = &mut shutdown => break,
        }
    }
    drop(listener);
    connections.join_all().await.into_iter().collect()
}

async fn answer(stream: Connection<TcpStream>, slow: Slow) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let mut body = "hello";
    if line.starts_with("GET /slow ") {
        slow.asked.notify_one();
        slow.let_go.notified().await;
        body = "done";
    }
    while stream.read_line(&mut line).await? > 2 {} // the headers, up to an empty line
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length:";
    stream.write_all(format!("{head} {}\r\n\r\n{body}", body.len()).as_bytes()).await
}
