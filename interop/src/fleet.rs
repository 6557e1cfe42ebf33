//! A fleet: the servers and callers of one service.

use crate::config::{Configs, ServerConfig};
use crate::event::{Event, What, now};
use crate::program::{Program, within};
use crate::spec::{Language, Peer};
use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use registry_testbed::servers::free_port;
use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::sleep;

/// The timeout until all callers have called a server.
const CALLED_WITHIN: Duration = Duration::from_secs(20);

/// Starts participants.
#[derive(Debug)]
pub(crate) struct Launcher {
    pub(crate) configs: Configs,
    pub(crate) peer: Peer,
    /// The folder of the Go programs.
    pub(crate) go: PathBuf,
    /// The host that servers listen on.
    pub(crate) host: &'static str,
    pub(crate) has_metadata: bool,
    pub(crate) logs: PathBuf,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) language: Language,
    pub(crate) address: String,
    pub(crate) id: Option<u32>,
    pub(crate) program: Program,
}

#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) language: Language,
    pub(crate) program: Program,
}

/// The servers and callers of one service, and a Go subscriber if there is one.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) key: String,
    /// The languages of the initial servers.
    pub(crate) languages: [Language; 2],
    pub(crate) servers: Vec<Server>,
    pub(crate) callers: Vec<Caller>,
    pub(crate) subscriber: Option<Program>,
    /// All addresses that servers ever had.
    pub(crate) addresses: BTreeSet<String>,
    started: u32,
}

impl Launcher {
    fn start(&self, language: Language, role: &str, config: &Path) -> Result<Program> {
        let program = match language {
            Language::Go => self.go.join(self.peer.program()),
            Language::Rust => env::current_exe().context("cannot find the path of this program")?,
        };
        let name = config.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Program::start(&program, role, config, &self.logs.join(format!("{name}.log")))
    }

    pub(crate) fn caller(&self, language: Language, key: &str) -> Result<Caller> {
        let config = self.configs.caller(&format!("{key}-caller-{language}"), key)?;
        let role = if language == Language::Go { self.peer.caller_role() } else { "caller" };
        Ok(Caller { language, program: self.start(language, role, &config)? })
    }

    pub(crate) fn subscriber(&self, key: &str) -> Result<Program> {
        let config = self.configs.caller(&format!("{key}-subscriber"), key)?;
        self.start(Language::Go, "subscriber", &config)
    }
}

impl Fleet {
    pub(crate) fn new(key: &str, languages: [Language; 2]) -> Self {
        Self {
            key: key.to_owned(),
            languages,
            servers: Vec::new(),
            callers: Vec::new(),
            subscriber: None,
            addresses: BTreeSet::new(),
            started: 0,
        }
    }

    /// Starts a server without waiting for it.
    pub(crate) fn launch(
        &mut self,
        launcher: &Launcher,
        language: Language,
        id: Option<u32>,
    ) -> Result<Server> {
        self.started += 1;
        let name = format!("{}-{}-{language}", self.key, self.started);
        let address = format!("{}:{}", launcher.host, free_port());
        let config = launcher.configs.server(&ServerConfig {
            name: &name,
            key: &self.key,
            listen_on: &address,
            id,
            has_metadata: launcher.has_metadata,
        })?;
        let role = if language == Language::Go { launcher.peer.server_role() } else { "server" };
        let program = launcher.start(language, role, &config)?;
        self.addresses.insert(address.clone());
        Ok(Server { language, address, id, program })
    }

    /// Starts a server, waits until all callers have called it, and returns the time of its event `Serving`.
    pub(crate) async fn start(
        &mut self,
        launcher: &Launcher,
        language: Language,
        id: Option<u32>,
    ) -> Result<u64> {
        let server = self.launch(launcher, language, id)?;
        let is_serving = |what: &What| matches!(what, What::Serving { .. });
        let at = server.program.event(0, CALLED_WITHIN, is_serving).await?;
        let address = server.address.clone();
        self.servers.push(server);
        self.await_calls(&address, at).await?;
        Ok(at)
    }

    /// Waits until a server has responded to all callers.
    pub(crate) async fn await_calls(&self, address: &str, since: u64) -> Result<()> {
        let is_from =
            |what: &What| matches!(what, What::Call { address: from, .. } if from == address);
        let calls = self.callers.iter().map(|caller| {
            let program = &caller.program;
            async move {
                let called = program.event(since, CALLED_WITHIN, is_from).await;
                called.with_context(|| format!("no response from {address} in {}", self.key))
            }
        });
        try_join_all(calls).await.map(drop)
    }

    /// Waits for a second in which no call fails.
    pub(crate) async fn await_calm(&self) -> Result<()> {
        const CALM: u64 = 1_000_000;
        const WITHIN: Duration = Duration::from_secs(30);
        const PAUSE: Duration = Duration::from_millis(20);
        let began = now();
        let wait = async {
            let lost = || self.callers.iter().map(|caller| caller.program.last_lost()).max();
            while now() < lost().unwrap_or_default().max(began) + CALM {
                sleep(PAUSE).await;
            }
        };
        let calm = within(WITHIN, wait).await;
        calm.with_context(|| format!("calls fail in {} before the schedule starts", self.key))
    }

    /// Returns the lists of the subscriber with an endpoint that no server ever had.
    pub(crate) fn strange_lists(&self) -> Vec<Event> {
        let Some(subscriber) = &self.subscriber else { return Vec::new() };
        let is_strange = |event: &&Event| match &event.what {
            What::Endpoints { list } => list.iter().any(|one| !self.addresses.contains(one)),
            _ => false,
        };
        subscriber.events().iter().filter(is_strange).cloned().collect()
    }
}
