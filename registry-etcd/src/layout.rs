//! Which keys an instance has, and what keys and their values say: in this library's own form, or
//! in one that a fleet in Go reads and writes.

mod decoder;
mod extras;
mod go_zero;
mod grpc;
mod native;
mod survey;

pub(crate) use self::decoder::Decoder;
pub(crate) use self::survey::{Stranger, Survey, Surveyed};

use self::go_zero::Pairs;
use etcd_client::KeyValue;
use registry_core::record::{self, RecordError};
use registry_core::{Error, ErrorKind, Instance, InstanceId, Origin, Result, ServiceName, Target};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The form of all keys of a registry, and what is in front of them. A clone is cheap.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    form: Form,
    /// `<prefix>/`, nothing, or slashes alone.
    root: Arc<str>,
    /// `<form>:<root>`, as its cursors say: another layout, or another prefix, reads other data.
    scope: Arc<str>,
}

impl Layout {
    /// What a URL asks for: its option `layout`, native unless stated, under its path.
    pub(crate) fn of(target: &Target) -> Result<Self> {
        let form = target.option("layout").map_or(Ok(Form::Native), str::parse)?;
        Ok(Self::new(form, target.path()))
    }

    fn new(form: Form, path: &str) -> Self {
        let root: Arc<str> = match (form, path.trim_end_matches('/')) {
            (Form::Native, "") => "registry/".into(),
            // Who shares its keys with others has them where the others look: at the top, or behind
            // the slashes that their keys start with.
            (Form::GoZero | Form::Grpc, "") => path.into(),
            (_, path) => format!("{path}/").into(),
        };
        let scope = format!("{form}:{root}").into();
        Self { form, root, scope }
    }

    /// What all keys start with.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    /// The range of all keys.
    pub(crate) fn range(&self) -> (String, String) {
        match self.root() {
            // etcd's way to say all that there is.
            "" => ("\0".to_owned(), "\0".to_owned()),
            root => (root.to_owned(), end_of(root)),
        }
    }

    /// The keys of `service`.
    ///
    /// # Errors
    ///
    /// `Invalid` if no service of this layout has that name.
    pub(crate) fn service(&self, service: &ServiceName) -> Result<ServiceKeys> {
        let (form, root) = (self.form, self.root());
        let (prefix, start) = match form {
            Form::Native => (native::prefix(root, service), None),
            Form::GoZero => {
                let (prefix, sides) = go_zero::prefixes(root, service)?;
                (prefix, Some(sides))
            }
            Form::Grpc => (grpc::prefix(root, service), None),
        };
        let end = end_of(&prefix);
        let start = start.unwrap_or_else(|| prefix.clone());
        let origin = Origin::new("etcd", &self.scope, service);
        Ok(ServiceKeys { form, service: service.clone(), prefix, start, end, origin })
    }

    /// What stands for `instance`.
    ///
    /// # Errors
    ///
    /// `Invalid` if this layout cannot say it.
    pub(crate) fn record(&self, instance: &Instance) -> Result<Record> {
        let keys = self.service(instance.service())?;
        match self.form {
            Form::Native => Ok(native::record(&keys.prefix, instance)),
            Form::GoZero => go_zero::record(&keys.prefix, &keys.start, instance),
            Form::Grpc => grpc::record(&keys.prefix, instance),
        }
    }

    /// Whether a key alone tells that it is an instance's.
    pub(crate) fn keys_suffice(&self) -> bool {
        self.form == Form::Native
    }

    /// The service that a key and its value belong to, if they are those of an instance.
    pub(crate) fn service_of(&self, key: &[u8], value: &[u8]) -> Option<ServiceName> {
        let names = key.strip_prefix(self.root.as_bytes())?;
        match self.form {
            Form::Native => native::service_of(names),
            Form::GoZero => go_zero::service_of(names, value),
            Form::Grpc => grpc::service_of(names, value),
        }
    }
}

/// Whose form it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// This library's own.
    Native,
    /// go-zero's, with a second key for what it cannot say.
    GoZero,
    /// That of etcd's own resolver for gRPC in Go, its package `naming/endpoints`.
    Grpc,
}

impl FromStr for Form {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "native" => Ok(Self::Native),
            "go-zero" => Ok(Self::GoZero),
            "grpc" => Ok(Self::Grpc),
            _ => Err(invalid(format!("layout is `native`, `go-zero` or `grpc`, got=`{name}`"))),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::GoZero => "go-zero",
            Self::Grpc => "grpc",
        })
    }
}

/// What stands for an instance: a key with its value, and in some layouts a second one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    /// `None`: there is no second key, whatever the instance.
    pub(crate) side: Option<Side>,
}

impl Record {
    /// Whether `key` is one of its keys.
    pub(crate) fn has(&self, key: &[u8]) -> bool {
        let side = self.side.as_ref().map(|side| side.key.as_bytes());
        key == self.key.as_bytes() || Some(key) == side
    }
}

/// A second key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Side {
    pub(crate) key: String,
    /// `None`: the key must not be there.
    pub(crate) value: Option<Vec<u8>>,
}

/// The keys of one service: all in a range of keys that are of its form.
#[derive(Clone, Debug)]
pub(crate) struct ServiceKeys {
    form: Form,
    service: ServiceName,
    /// What is in front of the id in the key of an instance.
    prefix: String,
    start: String,
    end: String,
    origin: Origin,
}

impl ServiceKeys {
    /// Where the range starts.
    pub(crate) fn start(&self) -> &str {
        &self.start
    }

    /// What follows the range.
    pub(crate) fn end(&self) -> &str {
        &self.end
    }

    /// What the cursors of this service belong to.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether an event can be understood only together with what stood before it.
    pub(crate) fn needs_state(&self) -> bool {
        self.form == Form::GoZero
    }

    /// What all keys of the range, as they stand at one revision, say.
    pub(crate) fn read_all(&self, kvs: &[KeyValue]) -> Reading {
        self.read_each(kvs.iter().map(Standing::from))
    }

    fn read_each<'a>(&self, standing: impl Iterator<Item = Standing<'a>>) -> Reading {
        let mut skipped = Count::default();
        let instances = self.read_or_report(standing, |key, why| skipped.add(key, why));
        Reading { instances, skipped }
    }

    /// The instances that keys describe. What cannot be decoded is told to `report`, with its key.
    fn read_or_report<'a>(
        &self,
        standing: impl Iterator<Item = Standing<'a>>,
        mut report: impl FnMut(&[u8], &dyn fmt::Display),
    ) -> Vec<Instance> {
        if self.needs_state() {
            return Pairs::new(self, standing).instances(|key, why| report(key, &why));
        }
        let mut instances = Vec::new();
        for Standing { key, value, .. } in standing {
            match self.read(key, value) {
                Ok(instance) => instances.push(instance),
                // Under a native prefix is nothing but what this library writes. Elsewhere it is
                // another service's, or nobody's.
                Err(Skipped::Foreign) if self.form != Form::Native => {}
                Err(Skipped::Withdrawn(_)) => {}
                Err(why) => report(key, &why),
            }
        }
        instances
    }

    /// The instance that a key names, unless something else wrote the key.
    fn id_of(&self, key: &[u8]) -> Option<InstanceId> {
        let id = key.strip_prefix(self.prefix.as_bytes())?;
        match self.form {
            Form::Native => native::id(id),
            Form::GoZero | Form::Grpc => bare_id(id),
        }
    }

    /// The instance that a key and its value describe, in a form of one key an instance.
    fn read(&self, key: &[u8], value: &[u8]) -> Result<Instance, Skipped> {
        let id = self.id_of(key).ok_or(Skipped::Foreign)?;
        let read = match self.form {
            Form::Grpc => grpc::decode(&self.service, &id, value),
            _ => record::decode(&self.service, &id, value).map(Some).map_err(Unreadable::from),
        };
        match read {
            Ok(Some(instance)) => Ok(instance),
            Ok(None) => Err(Skipped::Withdrawn(id)),
            Err(why) => Err(Skipped::Undecodable(id, why)),
        }
    }
}

/// What etcd says of a key, as far as its meaning hangs on it.
#[derive(Clone, Copy, Debug)]
struct Standing<'a> {
    key: &'a [u8],
    value: &'a [u8],
    /// 0 is none.
    lease: i64,
}

impl<'a> From<&'a KeyValue> for Standing<'a> {
    fn from(kv: &'a KeyValue) -> Self {
        Self { key: kv.key(), value: kv.value(), lease: kv.lease() }
    }
}

/// What the keys of a service say.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) instances: Vec<Instance>,
    pub(crate) skipped: Count,
}

impl Reading {
    /// Adds what other keys say.
    pub(crate) fn add(&mut self, mut others: Self) {
        self.instances.append(&mut others.instances);
        self.skipped.undecodable += others.skipped.undecodable;
        self.skipped.example = others.skipped.example.or_else(|| self.skipped.example.take());
    }
}

/// How many values cannot be decoded, and one of them.
#[derive(Debug, Default)]
pub(crate) struct Count {
    pub(crate) undecodable: usize,
    /// A key and what is wrong with its value, printable.
    pub(crate) example: Option<(String, String)>,
}

impl Count {
    fn add(&mut self, key: &[u8], why: impl fmt::Display) {
        self.undecodable += 1;
        self.example = Some((key.escape_ascii().to_string(), why.to_string()));
    }
}

/// Why what stands under a key of a service is no instance.
#[derive(Debug, thiserror::Error)]
enum Skipped {
    /// The key is an instance's, the value is no record.
    #[error("{1}")]
    Undecodable(InstanceId, Unreadable),
    /// It says itself that the instance is gone.
    #[error("the record says that it is deleted")]
    Withdrawn(InstanceId),
    /// Somebody else wrote it.
    #[error("the key is none that this library writes")]
    Foreign,
}

/// What is wrong with a value.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("value has {0} bytes, more than an address can have")]
    TooLong(usize),
    #[error("value has {0} bytes, more than 65536")]
    TooLarge(usize),
    #[error("value is no text")]
    Binary(#[from] std::str::Utf8Error),
    #[error("value is not of the known form: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("value has version {0}, which is not 1")]
    Version(u32),
    #[error("value has the unknown operation {0}")]
    Operation(u8),
    #[error(transparent)]
    Field(#[from] Error),
}

/// The id that stands in a key as it is.
fn bare_id(id: &[u8]) -> Option<InstanceId> {
    InstanceId::new(str::from_utf8(id).ok()?).ok()
}

/// The service and the id that stand in a key as they are.
fn bare_names(names: &[u8]) -> Option<(ServiceName, InstanceId)> {
    let slash = names.iter().rposition(|byte| *byte == b'/')?;
    let service = ServiceName::new(str::from_utf8(&names[..slash]).ok()?).ok()?;
    Some((service, bare_id(&names[slash + 1..])?))
}

/// What follows all keys under `prefix`, which ends with `/`. `0` is the byte after `/`.
fn end_of(prefix: &str) -> String {
    [prefix.strip_suffix('/').unwrap_or(prefix), "0"].concat()
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}
