//! Checks that the keys under the path are records in the layout of the URL.

use super::survey::{ForeignRecord, Survey, Surveyed};
use crate::client::Client;
use crate::layout::builtin;
use crate::layout::keyspace::Keyspace;
use crate::pages::{page, pages};
use etcd_client::GetOptions;
use registry_core::diagnosis::{self, Finding, examples};
use registry_core::{Error, ErrorKind, Result};

/// How many keys of the whole etcd are read if there are none under the path.
const SAMPLE_LEN: usize = 1000;

pub(super) async fn diagnose(client: &Client, keyspace: &Keyspace) -> Result<Vec<Finding>> {
    let (start, end) = keyspace.range();
    let mut survey = Survey::new(keyspace);
    let all = GetOptions::new().with_range(end);
    pages(client, &start, all, None, |kvs| survey.add(kvs)).await?;
    let surveyed = survey.finish();
    let other_records = if surveyed.instances == 0 && surveyed.foreign.is_empty() {
        other_records(client, keyspace).await?
    } else {
        Vec::new()
    };
    let mut findings = records(&surveyed);
    findings.extend(leases(&surveyed));
    findings.push(layout(keyspace, &surveyed, &other_records));
    Ok(findings)
}

fn records(surveyed: &Surveyed) -> Vec<Finding> {
    let undecodable = surveyed.undecodable.iter().map(|(key, why)| format!("`{key}` ({why})"));
    let advice = "find out which program writes them, or delete them: `etcdctl del KEY`";
    diagnosis::records(surveyed.services, surveyed.instances, undecodable, advice)
}

fn leases(surveyed: &Surveyed) -> Option<Finding> {
    let leaseless = &surveyed.leaseless;
    if leaseless.is_empty() {
        return None;
    }
    let examples = examples(leaseless.iter().map(|key| format!("`{key}`")));
    let message =
        format!("records without a lease, which never expire: {}: {examples}", leaseless.len());
    let advice =
        "delete them: `etcdctl del KEY`; instances that are alive register again, with a lease";
    Some(Finding::warning("leases", message, advice))
}

/// Checks that the records are in the layout and under the path of the URL.
fn layout(keyspace: &Keyspace, surveyed: &Surveyed, other_records: &[ForeignRecord]) -> Finding {
    let (layout, root) = (keyspace.layout().name(), keyspace.root());
    let foreign = &surveyed.foreign;
    if let Some(first) = foreign.first() {
        let examples = examples(foreign.iter().map(describe));
        let message =
            format!("records in a layout other than `{layout}`: {}: {examples}", foreign.len());
        let advice = format!("if you expect these, {}", url_change(first));
        return if surveyed.instances == 0 {
            Finding::error("layout", message, advice)
        } else {
            Finding::warning("layout", message, advice)
        };
    }
    if let Some(first) = other_records.first() {
        let examples = examples(other_records.iter().map(describe));
        let message = format!("no records under `{root}`, but elsewhere: {examples}");
        let advice = format!("if you expect these, {}", url_change(first));
        return Finding::warning("layout", message, advice);
    }
    Finding::ok("layout", format!("`{layout}`, keys begin with `{root}`"))
}

fn describe(foreign: &ForeignRecord) -> String {
    format!("`{}` ({})", foreign.key, foreign.layout)
}

/// Returns the change to the URL with which it would lead to the record.
fn url_change(foreign: &ForeignRecord) -> String {
    let option = if builtin::is_default(foreign.layout) {
        "remove `layout`".to_owned()
    } else {
        format!("add `?layout={}`", foreign.layout)
    };
    format!("{option}, and set the path to the part of the key before the service name")
}

/// Returns records outside the path of the URL, or none if the credentials lack permission to read there.
async fn other_records(client: &Client, keyspace: &Keyspace) -> Result<Vec<ForeignRecord>> {
    if keyspace.root().is_empty() {
        return Ok(Vec::new()); // all keys were surveyed
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
