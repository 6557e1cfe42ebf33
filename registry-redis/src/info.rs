//! The report of a server about itself.

use redis::RedisError;
use redis::aio::MultiplexedConnection;

/// The reply to `INFO`: lines of `field:value`, in sections.
#[derive(Debug)]
pub(crate) struct Info(String);

impl Info {
    /// Requests all sections. The caller sets the deadline.
    pub(crate) async fn ask(connection: &mut MultiplexedConnection) -> Result<Self, RedisError> {
        redis::cmd("INFO").query_async(connection).await.map(Self)
    }

    /// Returns the value of `field`.
    pub(crate) fn get(&self, field: &str) -> Option<&str> {
        let value = self.0.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.map(str::trim_end)
    }

    /// Returns the value of `field`, if it is a number.
    pub(crate) fn number(&self, field: &str) -> Option<u64> {
        self.get(field)?.parse().ok()
    }

    /// Returns `standalone`, `cluster` or `sentinel`. Valkey uses another field name.
    pub(crate) fn mode(&self) -> Option<&str> {
        self.get("redis_mode").or_else(|| self.get("server_mode"))
    }
}

#[cfg(test)]
impl From<&str> for Info {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}
