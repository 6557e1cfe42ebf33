//! What lies under the path, and whether it is what the layout wants.

use super::survey::{ForeignRecord, Survey, Surveyed};
use crate::client::Client;
use crate::layout::builtin;
use crate::layout::keyspace::Keyspace;
use crate::pages::{page, pages};
use etcd_client::GetOptions;
use registry_core::diagnosis::{self, Finding, examples};
use registry_core::{Error, ErrorKind, Result};

/// How many keys of the whole etcd are looked at where nothing lies under the path.
const SAMPLE_LEN: usize = 1000;

pub(super) async fn diagnose(client: &Client, keyspace: &Keyspace) -> Result<Vec<Finding>> {
    let (start, end) = keyspace.range();
    let mut survey = Survey::new(keyspace);
    let all = GetOptions::new().with_range(end);
    pages(client, &start, all, None, |kvs| survey.add(kvs)).await?;
    let surveyed = survey.finish();
    let elsewhere = if surveyed.instances == 0 && surveyed.foreign.is_empty() {
        elsewhere(client, keyspace).await?
    } else {
        Vec::new()
    };
    let mut findings = records(&surveyed);
    findings.extend(leases(&surveyed));
    findings.push(layout(keyspace, &surveyed, &elsewhere));
    Ok(findings)
}

fn records(surveyed: &Surveyed) -> Vec<Finding> {
    let undecodable = surveyed.undecodable.iter().map(|(key, why)| format!("`{key}` ({why})"));
    let advice = "find out who writes them, or delete them: `etcdctl del KEY`";
    diagnosis::records(surveyed.services, surveyed.instances, undecodable, advice)
}

fn leases(surveyed: &Surveyed) -> Option<Finding> {
    let leaseless = &surveyed.leaseless;
    if leaseless.is_empty() {
        return None;
    }
    let examples = examples(leaseless.iter().map(|key| format!("`{key}`")));
    let message =
        format!("records on no lease, which never expire: {}: {examples}", leaseless.len());
    let advice = "delete them: `etcdctl del KEY`; who is alive registers with a lease";
    Some(Finding::warning("leases", message, advice))
}

/// Whether the records are in the layout that the URL asks for, and where the URL looks.
fn layout(keyspace: &Keyspace, surveyed: &Surveyed, elsewhere: &[ForeignRecord]) -> Finding {
    let (layout, root) = (keyspace.layout().name(), keyspace.root());
    let foreign = &surveyed.foreign;
    if let Some(first) = foreign.first() {
        let examples = examples(foreign.iter().map(describe));
        let message =
            format!("records in another layout than `{layout}`: {}: {examples}", foreign.len());
        let advice = format!("if these are meant, {}", url_change(first));
        return if surveyed.instances == 0 {
            Finding::error("layout", message, advice)
        } else {
            Finding::warning("layout", message, advice)
        };
    }
    if let Some(first) = elsewhere.first() {
        let examples = examples(elsewhere.iter().map(describe));
        let message = format!("nothing under `{root}`, and records elsewhere: {examples}");
        let advice = format!("if these are meant, {}", url_change(first));
        return Finding::warning("layout", message, advice);
    }
    Finding::ok("layout", format!("`{layout}`, keys begin with `{root}`"))
}

fn describe(foreign: &ForeignRecord) -> String {
    format!("`{}` ({})", foreign.key, foreign.layout)
}

/// What to change in the URL, so that it leads to a record.
fn url_change(foreign: &ForeignRecord) -> String {
    let option = if builtin::is_default(foreign.layout) {
        "leave `layout` out".to_owned()
    } else {
        format!("add `?layout={}`", foreign.layout)
    };
    format!("{option}, and put what is in front of the service behind the host")
}

/// Records that the URL does not lead to. None, if the credentials may not read there.
async fn elsewhere(client: &Client, keyspace: &Keyspace) -> Result<Vec<ForeignRecord>> {
    if keyspace.root().is_empty() {
        return Ok(Vec::new()); // all was looked at
    }
    let all = GetOptions::new().with_all_keys();
    let answer = page(client, b"", &all, SAMPLE_LEN).await.map_err(Error::from);
    let mut sample = match answer {
        Ok(mut answer) => answer.take_kvs(),
        Err(error) if error.kind() == ErrorKind::Denied => Vec::new(),
        Err(error) => return Err(error),
    };
    sample.retain(|kv| !kv.key().starts_with(keyspace.root().as_bytes()));
    Ok(sample.iter().filter_map(ForeignRecord::detect).collect())
}
