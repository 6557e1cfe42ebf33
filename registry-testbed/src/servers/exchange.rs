//! Requests to a server in its own protocol over a bare stream, so that the fixtures need no client library.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Sends a request over an open stream, and reads until the server closes it.
pub(super) async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> io::Result<String> {
    const LIMIT: u64 = 64 * 1024;
    stream.write_all(request.as_bytes()).await?;
    let mut reply = Vec::new();
    stream.take(LIMIT).read_to_end(&mut reply).await?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}
