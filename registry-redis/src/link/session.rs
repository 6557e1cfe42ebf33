//! A connection for commands that was greeted, and how a script is run over it.

use super::{Call, Link};
use crate::connect::Address;
use crate::error::Fault;
use crate::info::Info;
use crate::options::Ack;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, FromRedisValue, ServerErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) struct Session {
    pub(super) connection: MultiplexedConnection,
    run_id: String,
    is_given_up: AtomicBool,
}

impl Session {
    /// Connects, and makes sure that the server is of the kind that the URL says, a primary, and one that
    /// keeps what it has.
    pub(super) async fn greet(link: &Link, address: &Address, name: &str) -> Result<Self, Fault> {
        let mut connection = link.dialer.dial(address, name).await?;
        let info = Info::ask(&mut connection).await?;
        let run_id = info.said("run_id").ok_or(Fault::NoRunId)?.to_owned();
        // Valkey has a name of its own.
        let mode = info.said("redis_mode").or_else(|| info.said("server_mode"));
        match (mode, link.is_cluster()) {
            (Some("cluster"), false) => {
                return Err(Fault::Mode("is a node of a cluster", "redis+cluster"));
            }
            (Some("standalone"), true) => {
                return Err(Fault::Mode("is no node of a cluster", "redis"));
            }
            (Some("sentinel"), _) => return Err(Fault::Mode("is a sentinel", "redis+sentinel")),
            _ => {}
        }
        // A node of a cluster may be a replica: it says who has what is asked for.
        if info.said("role") == Some("slave") && !link.is_cluster() {
            return Err(Fault::NotPrimary);
        }
        if let Some(policy) =
            info.said("maxmemory_policy").filter(|policy| policy.starts_with("allkeys"))
        {
            return Err(Fault::Evicts(policy.to_owned()));
        }
        tracing::debug!(server = %address, %run_id, name, "connected");
        Ok(Self { connection, run_id, is_given_up: AtomicBool::new(false) })
    }

    /// Has all who would use it connect anew.
    pub(super) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Relaxed)
    }

    /// Runs a script. `is_asked` is one whom another node sent us to, for this one call.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        link: &Link,
        call: &Call<'_>,
        is_asked: bool,
    ) -> Result<T, Fault> {
        let keys = link.keyspace.keys(call.home);
        let mut command = redis::cmd("EVALSHA");
        command.arg(call.script.get_hash()).arg(keys.len()).arg(keys);
        command.arg(&self.run_id).arg(link.options.log_cap).arg(call.args);
        let mut is_known = false;
        loop {
            let outcome = match (call.ack, is_asked) {
                (Ack::Primary, false) => {
                    let mut connection = self.connection.clone();
                    command.query_async(&mut connection).await.map_err(Fault::from)
                }
                (ack, is_asked) => Box::pin(self.run_in_line(link, &command, ack, is_asked)).await,
            };
            match outcome {
                Err(Fault::Redis(error))
                    if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
                        && !is_known =>
                {
                    Box::pin(call.script.load_async(&mut self.connection.clone())).await?;
                    is_known = true;
                }
                outcome => return outcome,
            }
        }
    }

    /// Runs a script together with what goes before and after it: nobody's command comes in between.
    async fn run_in_line<T: FromRedisValue>(
        &self,
        link: &Link,
        command: &Cmd,
        ack: Ack,
        is_asked: bool,
    ) -> Result<T, Fault> {
        let mut pipeline = redis::pipe();
        if is_asked {
            pipeline.cmd("ASKING").ignore();
        }
        pipeline.add_command(command.clone());
        // So that the server says how many there were, before nobody waits for that any more.
        let patience = link.options.request_deadline.mul_f64(0.75).as_millis();
        let patience = u64::try_from(patience).unwrap_or(u64::MAX);
        let mut connection = self.connection.clone();
        match ack {
            Ack::Primary => {
                let (reply,) = pipeline.query_async(&mut connection).await?;
                Ok(reply)
            }
            Ack::Replicas(wanted) => {
                pipeline.cmd("WAIT").arg(wanted).arg(patience);
                let (reply, had): (T, u32) = pipeline.query_async(&mut connection).await?;
                if had < wanted {
                    return Err(Fault::Unreplicated { wanted, had });
                }
                Ok(reply)
            }
            Ack::Fsync { replicas: wanted } => {
                pipeline.cmd("WAITAOF").arg(1).arg(wanted).arg(patience);
                let (reply, (local, had)): (T, (u32, u32)) =
                    pipeline.query_async(&mut connection).await?;
                if local < 1 {
                    return Err(Fault::Unsynced);
                }
                if had < wanted {
                    return Err(Fault::Unreplicated { wanted, had });
                }
                Ok(reply)
            }
        }
    }
}
