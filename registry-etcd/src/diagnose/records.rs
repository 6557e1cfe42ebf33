//! What lies under the path, and whether it is what the layout wants.

use crate::client::Client;
use crate::layout::{Form, Layout, Stranger, Survey, Surveyed};
use crate::load;
use etcd_client::GetOptions;
use registry_core::diagnosis::{self, Finding, examples};
use registry_core::{Error, ErrorKind, Result};

/// How many keys of the whole etcd are looked at where nothing lies under the path.
const SAMPLE: i64 = 1000;

pub(super) async fn look(client: &Client, layout: &Layout) -> Result<Vec<Finding>> {
    let (start, end) = layout.range();
    let mut survey = Survey::new(layout);
    let all = GetOptions::new().with_range(end);
    load::pages(client, &start, all, None, |kvs| survey.add(kvs)).await?;
    let surveyed = survey.finish();
    let elsewhere = if surveyed.instances == 0 && surveyed.strangers.is_empty() {
        elsewhere(client, layout).await?
    } else {
        Vec::new()
    };
    let mut findings = records(&surveyed);
    findings.extend(leases(&surveyed));
    findings.push(forms(layout, &surveyed, &elsewhere));
    Ok(findings)
}

fn records(surveyed: &Surveyed) -> Vec<Finding> {
    let unreadable = surveyed.unreadable.iter().map(|(key, why)| format!("`{key}` ({why})"));
    let advice = "find out who writes them, or delete them: `etcdctl del KEY`";
    diagnosis::records(surveyed.services, surveyed.instances, unreadable, advice)
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

/// Whether the records are in the form that the URL asks for, and where the URL looks.
fn forms(layout: &Layout, surveyed: &Surveyed, elsewhere: &[Stranger]) -> Finding {
    let (form, root) = (layout.form(), layout.root());
    let strangers = &surveyed.strangers;
    if let Some(first) = strangers.first() {
        let examples = examples(strangers.iter().map(told));
        let message =
            format!("records in another layout than `{form}`: {}: {examples}", strangers.len());
        let advice = format!("if these are meant, {}", way_to(first));
        return if surveyed.instances == 0 {
            Finding::error("layout", message, advice)
        } else {
            Finding::warning("layout", message, advice)
        };
    }
    if let Some(first) = elsewhere.first() {
        let examples = examples(elsewhere.iter().map(told));
        let message = format!("nothing under `{root}`, and records elsewhere: {examples}");
        let advice = format!("if these are meant, {}", way_to(first));
        return Finding::warning("layout", message, advice);
    }
    Finding::ok("layout", format!("`{form}`, keys begin with `{root}`"))
}

fn told(stranger: &Stranger) -> String {
    format!("`{}` ({})", stranger.key, stranger.form)
}

/// What to change in the URL, so that it leads to a record.
fn way_to(stranger: &Stranger) -> String {
    match stranger.form {
        Form::Native => {
            "leave `layout` out, and put what is in front of the service behind the host".to_owned()
        }
        form => {
            format!("add `?layout={form}`, and put what is in front of the service behind the host")
        }
    }
}

/// Records that the URL does not lead to. Who may not look there has none.
async fn elsewhere(client: &Client, layout: &Layout) -> Result<Vec<Stranger>> {
    if layout.root().is_empty() {
        return Ok(Vec::new()); // all was looked at
    }
    let some = GetOptions::new().with_all_keys().with_limit(SAMPLE);
    let answer = client.range(Vec::new(), some).await.map_err(Error::from);
    let mut sample = match answer {
        Ok(mut answer) => answer.take_kvs(),
        Err(error) if error.kind() == ErrorKind::Denied => Vec::new(),
        Err(error) => return Err(error),
    };
    sample.retain(|kv| !kv.key().starts_with(layout.root().as_bytes()));
    Ok(sample.iter().filter_map(Stranger::of).collect())
}
