//! The configuration files in the format of go-zero, for both languages.

use crate::store::Store;
use anyhow::{Context, Result};
use registry_testbed::servers::Etcd;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The zone in the metadata of servers.
pub(crate) const ZONE: &str = "eu-1";

/// The common part of all configurations.
#[derive(Debug)]
pub(crate) struct Configs {
    folder: PathBuf,
    server_hosts: Vec<String>,
    caller_hosts: Vec<String>,
    /// The user and the certificates, as lines of the section `Etcd`.
    access: String,
    /// Whether to use the layout of etcd's resolver. go-zero has no field for that, so Rust programs get a URL.
    is_naming: bool,
}

/// The configuration of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerConfig<'a> {
    pub(crate) name: &'a str,
    pub(crate) key: &'a str,
    pub(crate) listen_on: &'a str,
    pub(crate) id: Option<u32>,
    pub(crate) has_metadata: bool,
}

impl Configs {
    pub(crate) fn new(folder: &Path, store: &Store, is_naming: bool) -> Self {
        let mut access = String::new();
        if store.has_auth {
            access = format!("  User: app\n  Pass: {}\n", Etcd::PASSWORD);
        }
        if let Some(tls) = &store.tls {
            let files = [
                ("CertFile", tls.client_certificate()),
                ("CertKeyFile", tls.client_key()),
                ("CACertFile", tls.ca()),
            ];
            access.extend(files.map(|(field, file)| format!("  {field}: {}\n", file.display())));
        }
        let (server_hosts, caller_hosts) = (store.server_hosts(), store.caller_hosts());
        Self { folder: folder.to_owned(), server_hosts, caller_hosts, access, is_naming }
    }

    /// Writes the file of a server.
    pub(crate) fn server(&self, server: &ServerConfig<'_>) -> Result<PathBuf> {
        let ServerConfig { name, key, listen_on, id, has_metadata } = server;
        // Disables load shedding, with which go-zero's servers would reject calls on a busy machine.
        let mut text = format!("Name: {name}\nListenOn: \"{listen_on}\"\nCpuThreshold: 0\n");
        text += &self.etcd(&self.server_hosts, key);
        if let Some(id) = id {
            writeln!(text, "  ID: {id}")?;
        }
        let mut own = self.registry(&self.server_hosts);
        if *has_metadata {
            write!(own, "  Weight: 50\n  Metadata: {{zone: {ZONE}}}\n")?;
        }
        self.write(name, &(text + &section(&own)))
    }

    /// Writes the file of a caller or a subscriber.
    pub(crate) fn caller(&self, name: &str, key: &str) -> Result<PathBuf> {
        let etcd = self.etcd(&self.caller_hosts, key);
        let own = section(&self.registry(&self.caller_hosts));
        self.write(name, &format!("Name: {name}\nNonBlock: true\n{etcd}{own}"))
    }

    fn etcd(&self, hosts: &[String], key: &str) -> String {
        let (hosts, access) = (hosts.join(","), &self.access);
        let log = "Log: {Mode: console, Level: severe, Stat: false}\n";
        format!("{log}Etcd:\n  Hosts: [{hosts}]\n  Key: {key}\n{access}")
    }

    /// Returns the field with the URL of the registry for Rust programs.
    fn registry(&self, hosts: &[String]) -> String {
        if !self.is_naming {
            return String::new();
        }
        format!("  Url: etcd://{}?layout=grpc\n", hosts.join(","))
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}.yaml"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// Returns a section with these fields, which go-zero ignores.
fn section(fields: &str) -> String {
    if fields.is_empty() {
        return String::new();
    }
    format!("ServiceRegistry:\n{fields}")
}
