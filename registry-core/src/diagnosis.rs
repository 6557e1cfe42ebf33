//! The diagnosis of a store, as `registryctl doctor` prints it for operators.

use crate::name::reserved::SELF_TEST;
use crate::printable::into_printable;
use crate::{CallOptions, Claim, Error, ErrorKind, Instance, Registry, Result, ServiceName};
use serde::Serialize;
use std::fmt;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// The result of a check. Its texts are [printable](crate::printable()), whatever the store contains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// The name of the check: one word.
    pub check: &'static str,
    /// The severity.
    pub level: Level,
    /// The result in words.
    pub message: String,
    /// What the operator should do, if anything.
    pub advice: Option<String>,
}

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Level {
    /// The check passed.
    Ok,
    /// It works now, but may stop working or may not work for everybody; or the check could not be made.
    Warning,
    /// It does not work.
    Error,
}

impl Finding {
    /// Returns a finding for a check that passed.
    pub fn ok(check: &'static str, message: impl Into<String>) -> Self {
        let message = into_printable(message.into());
        Self { check, level: Level::Ok, message, advice: None }
    }

    /// Returns a finding for something that works now, but may stop working or may not work for everybody.
    pub fn warning(
        check: &'static str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let advice = Some(into_printable(advice.into()));
        Self { level: Level::Warning, advice, ..Self::ok(check, message) }
    }

    /// Returns a finding for something that does not work.
    pub fn error(
        check: &'static str,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { level: Level::Error, ..Self::warning(check, message, advice) }
    }

    /// Returns a warning for a check that could not be made. Credentials that suffice for a registry may not suffice
    /// for every check.
    pub fn skipped(check: &'static str, why: &Error) -> Self {
        Self::warning(check, format!("could not be checked: {}", why.chain()), why.kind().advice())
    }

    /// Returns an error for a store that failed at something that a registry needs.
    pub fn failed(check: &'static str, why: &Error) -> Self {
        Self::error(check, why.chain().to_string(), why.kind().advice())
    }

    /// Returns the finding for a failed check: [`skipped`](Self::skipped) if these credentials may not make it,
    /// otherwise [`failed`](Self::failed).
    pub fn from_error(check: &'static str, why: &Error) -> Self {
        match why.kind() {
            ErrorKind::Denied => Self::skipped(check, why),
            _ => Self::failed(check, why),
        }
    }

    /// Prefixes the message with the subject of the check.
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

/// The deadline of each check.
pub const CHECK_DEADLINE: Duration = Duration::from_secs(10);

/// Runs a check within [`CHECK_DEADLINE`], and turns its error into a finding. For authors of stores.
pub async fn check(
    name: &'static str,
    findings: impl Future<Output = Result<Vec<Finding>>>,
) -> Vec<Finding> {
    in_time(findings).await.unwrap_or_else(|error| vec![Finding::from_error(name, &error)])
}

/// Returns the findings about the records in a store. For authors of stores: `unreadable` are the names of the records
/// that cannot be decoded, and `advice` is what to do about them.
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

/// Returns the first few of `all`, separated by commas, and the number of the others. For authors of stores.
pub fn examples(all: impl ExactSizeIterator<Item = String>) -> String {
    const SHOWN: usize = 5;
    let left = all.len().saturating_sub(SHOWN);
    let mut shown: Vec<_> = all.take(SHOWN).collect();
    if left > 0 {
        shown.push(format!("and {left} more"));
    }
    shown.join(", ")
}

/// Checks any store: whether it answers, and whether these credentials may register.
///
/// It registers an instance of the service `~doctor` for a moment, with a ttl of 5 s.
pub async fn self_test(registry: &dyn Registry) -> Vec<Finding> {
    let service = ServiceName::new(SELF_TEST).unwrap_or_else(|_| unreachable!("the name is valid"));
    let mut findings = Vec::new();
    for (name, outcome) in [
        ("answer", in_time(answers(registry, &service)).await),
        ("register", in_time(registers(registry, &service)).await),
    ] {
        findings.push(outcome.unwrap_or_else(|error| Finding::failed(name, &error)));
    }
    findings
}

/// How long the test instance stays listed if the self-test is interrupted.
const SELF_TEST_TTL: Duration = Duration::from_secs(5);

/// If a load takes longer than this, renewals of a 10 s ttl are often late.
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
    let advice = "use a store that is nearer, or ttls of at least ten times this duration";
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
            let advice = "if the program only discovers services, nothing; otherwise grant it write permission";
            Ok(Finding::warning("register", message, advice))
        }
        Err(error) => Err(error),
    }
}

async fn register_and_withdraw(registry: &dyn Registry, service: &ServiceName) -> Result<()> {
    let claim = Claim::new(SELF_TEST_TTL)?;
    let id = claim.lease().to_string().parse()?; // a number is a valid id in every layout
    let instance = Instance::from_parts(service.clone(), id, "127.0.0.1:1".parse()?);
    let lease = registry.register(&instance, &claim, &CallOptions::DEFAULT).await?;
    let renewed = registry.keep_alive(&lease, &CallOptions::DEFAULT).await;
    let loaded = registry.load(service, &CallOptions::DEFAULT).await;
    // Withdraw before looking at the results, so that nothing stays behind. If even that is denied, the record expires
    // with its ttl: some etcd releases check write permission not for a nested transaction, but when the lease is
    // revoked.
    registry.deregister(&lease, &CallOptions::DEFAULT).await?;
    renewed?;
    match loaded?.records().find(instance.id().as_str()) {
        Some(_) => Ok(()),
        None => Err(Error::new(ErrorKind::Internal, "the registered instance is not listed")),
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
    async fn a_failed_check_is_an_error_and_a_denied_one_a_warning() {
        for kind in [ErrorKind::Denied, ErrorKind::Unavailable, ErrorKind::Internal] {
            let found = check("it", async move { Err(Error::new(kind, "no")) }).await;
            let expected = if kind == ErrorKind::Denied { Level::Warning } else { Level::Error };
            assert_eq!(found[0].level, expected, "{kind}");
        }
    }

    /// Names of members, versions and keys could send control sequences to the terminal of the doctor's user.
    #[test]
    fn a_finding_contains_no_control_characters_of_a_store() {
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
