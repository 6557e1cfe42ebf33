//! What a server says of itself.

use redis::RedisError;
use redis::aio::MultiplexedConnection;

/// The reply to `INFO`: lines of `field:value`, in sections.
#[derive(Debug)]
pub(crate) struct Info(String);

impl Info {
    /// Asks for all of it. The caller sets the deadline.
    pub(crate) async fn ask(connection: &mut MultiplexedConnection) -> Result<Self, RedisError> {
        redis::cmd("INFO").query_async(connection).await.map(Self)
    }

    /// What it says of `field`.
    pub(crate) fn said(&self, field: &str) -> Option<&str> {
        let value = self.0.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.map(str::trim_end)
    }

    /// The number that it says of `field`.
    pub(crate) fn number(&self, field: &str) -> Option<u64> {
        self.said(field)?.parse().ok()
    }
}

#[cfg(test)]
impl From<&str> for Info {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}
