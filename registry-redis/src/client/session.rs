//! A connection for commands whose server was checked, and how it runs a script.

use super::silence::Silence;
use crate::connect::{Address, Dialer, Link, Topology};
use crate::error::StoreError;
use crate::info::Info;
use crate::options::{Ack, RedisOptions};
use crate::scripts::Script;
use crate::shard::KeyGroup;
use redis::{Cmd, ErrorKind, FromRedisValue, ServerErrorKind};
use registry_core::printable;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) struct Session {
    link: Link,
    run_id: String,
    is_broken: AtomicBool,
    silence: Silence,
}

/// A script with its arguments, the keys that it runs on, and who must acknowledge it.
pub(super) struct Call<'a> {
    pub(super) script: &'a Script,
    pub(super) group: KeyGroup,
    pub(super) args: &'a [&'a [u8]],
    pub(super) ack: Ack,
    /// A command to run after the script, where nobody must acknowledge it. The reply is a pair then.
    pub(super) then: Option<&'a Cmd>,
}

impl Call<'_> {
    pub(super) fn waits_for_ack(&self) -> bool {
        self.ack != Ack::Primary
    }
}

impl Session {
    /// Connects, and makes the handshake: the server must have the role that the URL says, and must
    /// not evict keys.
    pub(super) async fn connect(
        topology: &dyn Topology,
        dialer: &Dialer,
        address: &Address,
        name: &str,
    ) -> Result<Self, StoreError> {
        let link = dialer.dial(address, name).await?;
        let shaken = Self::shake_hands(topology, &link).await;
        let run_id = shaken.map_err(|error| link.traffic().explain(error).at(address))?;
        let server = address.to_string();
        tracing::debug!(server = %printable(&server), run_id = %printable(&run_id), name, "connected");
        let silence = Silence::new(link.traffic().clone());
        Ok(Self { link, run_id, is_broken: AtomicBool::new(false), silence })
    }

    /// Returns the run id of a server that has the right role and keeps its keys.
    async fn shake_hands(topology: &dyn Topology, link: &Link) -> Result<String, StoreError> {
        let info = Info::ask(&mut link.requests()).await?;
        let run_id = info.get("run_id").ok_or(StoreError::MissingRunId)?.to_owned();
        topology.check_role(&info)?;
        if let Some(policy) =
            info.get("maxmemory_policy").filter(|policy| policy.starts_with("allkeys"))
        {
            return Err(StoreError::EvictionPolicy(policy.to_owned()));
        }
        Ok(run_id)
    }

    pub(super) fn into_link(self) -> Link {
        self.link
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Makes the next caller connect anew.
    pub(super) fn mark_broken(&self) {
        self.is_broken.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed) || self.link.traffic().is_closed()
    }

    /// Returns what tells whether the server owes a reply.
    pub(super) fn silence(&self) -> &Silence {
        &self.silence
    }

    /// Runs a script on `keys`. With `is_asking`, another node has redirected this one call here.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        options: &RedisOptions,
        keys: &[String],
        call: &Call<'_>,
        is_asking: bool,
    ) -> Result<T, StoreError> {
        let command = |eval, script: &str| {
            let mut command = redis::cmd(eval);
            command.arg(script).arg(keys.len()).arg(keys);
            command.arg(&self.run_id).arg(options.log_cap).arg(call.args);
            command
        };
        let (text, by_name, whole) = if options.is_reader {
            let text = call.script.reader.as_ref().ok_or(StoreError::ReadOnly)?;
            (text, "EVALSHA_RO", "EVAL_RO")
        } else {
            (&call.script.owner, "EVALSHA", "EVAL")
        };
        match self.send(options, &command(by_name, &text.sha1), call, is_asking).await {
            // The server forgets scripts when it restarts and when somebody flushes them. It learns this one and runs
            // it in one step, so that no flush comes between.
            Err(StoreError::Redis(error))
                if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) =>
            {
                let command = command(whole, text.code);
                Box::pin(self.send(options, &command, call, is_asking)).await
            }
            outcome => outcome,
        }
    }

    async fn send<T: FromRedisValue>(
        &self,
        options: &RedisOptions,
        command: &Cmd,
        call: &Call<'_>,
        is_asking: bool,
    ) -> Result<T, StoreError> {
        if call.ack == Ack::Primary && !is_asking && call.then.is_none() {
            return Ok(command.query_async(&mut self.link.requests()).await?);
        }
        Box::pin(self.send_in_pipeline(options, command, call, is_asking)).await
    }

    /// Runs a script in one pipeline with the commands before and after it.
    async fn send_in_pipeline<T: FromRedisValue>(
        &self,
        options: &RedisOptions,
        command: &Cmd,
        call: &Call<'_>,
        is_asking: bool,
    ) -> Result<T, StoreError> {
        let mut pipeline = redis::pipe();
        if is_asking {
            pipeline.cmd("ASKING").ignore();
        }
        pipeline.add_command(command.clone());
        if let Some(then) = call.then {
            if is_asking {
                pipeline.cmd("ASKING").ignore();
            }
            pipeline.add_command(then.clone());
            return Ok(pipeline.query_async(&mut self.link.requests()).await?);
        }
        // Shorter than our deadline, so that the server's count of acknowledgements arrives in time.
        let timeout = options.request_deadline.mul_f64(0.75).as_millis();
        let timeout = u64::try_from(timeout).unwrap_or(u64::MAX);
        let mut connection = self.link.requests();
        match call.ack {
            Ack::Primary => {
                let (reply,) = pipeline.query_async(&mut connection).await?;
                Ok(reply)
            }
            Ack::Replicas(wanted) => {
                pipeline.cmd("WAIT").arg(wanted).arg(timeout);
                let (reply, had): (T, u32) = pipeline.query_async(&mut connection).await?;
                if had < wanted {
                    return Err(StoreError::Unreplicated { wanted, had });
                }
                Ok(reply)
            }
            Ack::Fsync { replicas: wanted } => {
                pipeline.cmd("WAITAOF").arg(1).arg(wanted).arg(timeout);
                let (reply, (local, had)): (T, (u32, u32)) =
                    pipeline.query_async(&mut connection).await?;
                if local < 1 {
                    return Err(StoreError::NotFsynced);
                }
                if had < wanted {
                    return Err(StoreError::Unreplicated { wanted, had });
                }
                Ok(reply)
            }
        }
    }
}
