//! A connection for commands to a verified server, and the execution of scripts.

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

/// A script with its arguments, its keys, and the required acknowledgement.
pub(super) struct Call<'a> {
    pub(super) script: &'a Script,
    pub(super) group: KeyGroup,
    pub(super) args: &'a [&'a [u8]],
    pub(super) ack: Ack,
    /// A command to run after the script, if no acknowledgement by replicas is required. The reply is then a pair.
    pub(super) then: Option<&'a Cmd>,
}

impl Call<'_> {
    pub(super) fn waits_for_ack(&self) -> bool {
        self.ack != Ack::Primary
    }
}

impl Session {
    /// Connects and verifies the server: it must have the role that the URL requires, and must not evict keys.
    pub(super) async fn connect(
        topology: &dyn Topology,
        dialer: &Dialer,
        address: &Address,
        name: &str,
    ) -> Result<Self, StoreError> {
        let link = dialer.dial(address, name).await?;
        let verified = Self::verify_server(topology, &link).await;
        let run_id = verified.map_err(|error| link.traffic().explain(error).at(address))?;
        let server = address.to_string();
        tracing::debug!(server = %printable(&server), run_id = %printable(&run_id), name, "connected");
        let silence = Silence::new(link.traffic().clone());
        Ok(Self { link, run_id, is_broken: AtomicBool::new(false), silence })
    }

    /// Returns the run id of the server, after checking its role and eviction policy.
    async fn verify_server(topology: &dyn Topology, link: &Link) -> Result<String, StoreError> {
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

    /// Makes the next call use a new connection.
    pub(super) fn mark_broken(&self) {
        self.is_broken.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Relaxed) || self.link.traffic().is_closed()
    }

    /// Returns the tracker of the server's silence.
    pub(super) fn silence(&self) -> &Silence {
        &self.silence
    }

    /// Runs a script on `keys`. `is_asking` means that another node redirected this call here with `ASK`.
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
            // The server forgets scripts when it restarts or they are flushed. `EVAL` loads and runs the
            // script atomically, so no flush can come in between.
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
        // Shorter than the request deadline, so that the count of acknowledgements arrives in time.
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
