//! What is right and what is wrong with a store, as its operator is told: `registryctl doctor`.

use crate::name::reserved::REHEARSAL;
use crate::printable::into_printable;
use crate::{CallOptions, Claim, Error, ErrorKind, Instance, Registry, Result, ServiceName};
use serde::Serialize;
use std::fmt;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// What a check found. Its texts are [printable](crate::printable()), whatever the store contains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Which check it was, in a word.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub message: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and may not for long, or not for everybody; or it could not be looked at.
    Warning,
    /// It does not work.
    Error,
}

impl Finding {
    /// It is as it should be.
    pub fn ok(check: &'static str, message: impl Into<String>) -> Self {
        let message = into_printable(message.into());
        Self { check, level: Level::Ok, message, advice: None }
    }

    /// It works, and may not for long, or not for everybody.
    pub fn warning(
        check: &'static str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let advice = Some(into_printable(advice.into()));
        Self { level: Level::Warning, advice, ..Self::ok(check, message) }
    }

    /// It does not work.
    pub fn error(
        check: &'static str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { level: Level::Error, ..Self::warning(check, message, advice) }
    }

    /// It could not be looked at. Credentials that suffice for a registry may not suffice for that.
    pub fn skipped(check: &'static str, why: &Error) -> Self {
        Self::warning(check, format!("could not be asked: {}", why.chain()), why.kind().advice())
    }

    /// The store failed at what a registry needs.
    pub fn failed(check: &'static str, why: &Error) -> Self {
        Self::error(check, why.chain().to_string(), why.kind().advice())
    }

    /// What to say of a question that got no answer: these credentials may not ask it, or the store
    /// failed.
    pub fn from_error(check: &'static str, why: &Error) -> Self {
        match why.kind() {
            ErrorKind::Denied => Self::skipped(check, why),
            _ => Self::failed(check, why),
        }
    }

    /// Says of what it is.
    #[must_use]
    pub fn with_subject(self, subject: impl fmt::Display) -> Self {
        Self { message: into_printable(format!("{subject}: {}", self.message)), ..self }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// No check takes longer.
pub const CHECK_DEADLINE: Duration = Duration::from_secs(10);

/// Makes a check, which may find that these credentials may not ask, or that the store fails. For
/// authors of stores.
pub async fn check(
    name: &'static str,
    findings: impl Future<Output = Result<Vec<Finding>>>,
) -> Vec<Finding> {
    in_time(findings).await.unwrap_or_else(|error| vec![Finding::from_error(name, &error)])
}

/// What to say of the records that were read. For authors of stores: `unreadable` are the names of
/// those that cannot be decoded, and `advice` is what to do about them.
pub fn records(
    services: usize,
    instances: usize,
    unreadable: impl ExactSizeIterator<Item = String>,
    advice: &str,
) -> Vec<Finding> {
    let found = format!("instances: {instances}, of services: {services}");
    let mut findings = vec![Finding::ok("records", found)];
    let count = unreadable.len();
    if count > 0 {
        let examples = examples(unreadable);
        let message = format!("cannot be decoded, and are skipped: {count}: {examples}");
        findings.push(Finding::warning("records", message, advice));
    }
    findings
}

/// A few of `all`, separated by commas, and how many are left. For authors of stores.
pub fn examples(all: impl ExactSizeIterator<Item = String>) -> String {
    const SHOWN: usize = 5;
    let left = all.len().saturating_sub(SHOWN);
    let mut shown: Vec<_> = all.take(SHOWN).collect();
    if left > 0 {
        shown.push(format!("and {left} more"));
    }
    shown.join(", ")
}

/// What can be found out of any store: whether it answers, and whether these credentials may
/// register.
///
/// For a moment there is an instance of the service `~doctor`, which has a ttl of its own.
pub async fn self_test(registry: &dyn Registry) -> Vec<Finding> {
    let service = ServiceName::new(REHEARSAL).unwrap_or_else(|_| unreachable!("it is a name"));
    let mut findings = Vec::new();
    for (name, outcome) in [
        ("answer", in_time(answers(registry, &service)).await),
        ("register", in_time(registers(registry, &service)).await),
    ] {
        findings.push(outcome.unwrap_or_else(|error| Finding::failed(name, &error)));
    }
    findings
}

/// How long a rehearsal that is cut off in the middle stays listed.
const REHEARSAL_TTL: Duration = Duration::from_secs(5);

/// Slower than this, a renewal after a third of a ttl of 10 s is often late.
const SLOW: Duration = Duration::from_secs(1);

async fn answers(registry: &dyn Registry, service: &ServiceName) -> Result<Finding> {
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        match registry.load(service, &CallOptions::DEFAULT).await {
            Err(error) if error.kind() == ErrorKind::Denied => {
                return Ok(Finding::skipped("answer", &error));
            }
            loaded => drop(loaded?),
        }
        fastest = fastest.min(start.elapsed());
    }
    let message = format!("an empty service is loaded in {fastest:.1?}");
    if fastest < SLOW {
        return Ok(Finding::ok("answer", message));
    }
    let advice = "use a store that is nearer, or ttls that are ten times as long at least";
    Ok(Finding::warning("answer", message, advice))
}

async fn registers(registry: &dyn Registry, service: &ServiceName) -> Result<Finding> {
    let start = Instant::now();
    match register_and_withdraw(registry, service).await {
        Ok(()) => {
            let took = start.elapsed();
            let message = format!("registered, renewed, listed and withdrawn in {took:.1?}");
            Ok(Finding::ok("register", message))
        }
        Err(error) if error.kind() == ErrorKind::Denied => {
            let message = format!("these credentials may not register: {}", error.chain());
            let advice =
                "fine for who only looks services up; to register, grant the right to write";
            Ok(Finding::warning("register", message, advice))
        }
        Err(error) => Err(error),
    }
}

async fn register_and_withdraw(registry: &dyn Registry, service: &ServiceName) -> Result<()> {
    let claim = Claim::new(REHEARSAL_TTL)?;
    let id = claim.lease().to_string().parse()?; // which every layout takes
    let instance = Instance::from_parts(service.clone(), id, "127.0.0.1:1".parse()?);
    let lease = registry.register(&instance, &claim, &CallOptions::DEFAULT).await?;
    let renewed = registry.keep_alive(&lease, &CallOptions::DEFAULT).await;
    let loaded = registry.load(service, &CallOptions::DEFAULT).await;
    // Whatever the others came to. Where not even that is allowed, it goes by its ttl: some
    // releases of etcd forget to ask whether a nested transaction may write, and ask when its lease
    // is revoked.
    registry.deregister(&lease, &CallOptions::DEFAULT).await?;
    renewed?;
    match loaded?.records().find(instance.id().as_str()) {
        Some(_) => Ok(()),
        None => Err(Error::new(ErrorKind::Internal, "what was registered is not listed")),
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(CHECK_DEADLINE, work).await.unwrap_or_else(|_| {
        let message = format!("the check took too long, deadline=`{CHECK_DEADLINE:?}`");
        Err(Error::new(ErrorKind::Unavailable, message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_check_that_fails_is_an_error_and_one_that_is_denied_a_warning() {
        for kind in [ErrorKind::Denied, ErrorKind::Unavailable, ErrorKind::Internal] {
            let found = check("it", async move { Err(Error::new(kind, "no")) }).await;
            let expected = if kind == ErrorKind::Denied { Level::Warning } else { Level::Error };
            assert_eq!(found[0].level, expected, "{kind}");
        }
    }

    /// Names of members, versions and keys steered the terminal of whoever asked the doctor.
    #[test]
    fn what_a_store_contains_cannot_steer_a_terminal_through_a_finding() {
        let hostile = "a\u{1b}[2J\u{202e}\n";
        let findings = [
            Finding::ok("it", hostile),
            Finding::warning("it", hostile, hostile),
            Finding::error("it", hostile, hostile),
            Finding::ok("it", "").with_subject(hostile),
            Finding::failed("it", &Error::new(ErrorKind::Internal, hostile)),
        ];
        for finding in
            findings.into_iter().chain(records(1, 1, [hostile.to_owned()].into_iter(), ""))
        {
            let shown = format!("{}{}", finding.message, finding.advice.unwrap_or_default());
            assert_eq!(crate::printable(&shown), shown);
        }
    }
}
