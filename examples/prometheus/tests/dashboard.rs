//! The Grafana dashboard shows exactly the documented metrics.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::collections::BTreeSet;

const DASHBOARD: &str = include_str!("../../../docs/grafana.json");

/// The documentation of all metrics.
const DOCUMENTED: [&str; 2] = [
    include_str!("../../../registry-engine/src/metrics.rs"),
    include_str!("../../../registry-tonic/src/metrics.rs"),
];

/// The suffix that Prometheus appends to the name of a histogram.
const BUCKET: &str = "_bucket";

fn documented() -> BTreeSet<&'static str> {
    let lines = DOCUMENTED.into_iter().flat_map(str::lines);
    lines.filter_map(|line| line.strip_prefix("//! | `")?.split('`').next()).collect()
}

/// Returns the names of the metrics in a query.
fn names(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|char: char| !char.is_ascii_alphanumeric() && char != '_');
    let names = words.filter(|word| word.starts_with("registry_"));
    names.map(|name| name.strip_suffix(BUCKET).unwrap_or(name))
}

fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).unwrap()
}

fn panels(dashboard: &Value) -> &[Value] {
    dashboard["panels"].as_array().unwrap()
}

#[test]
fn every_metric_is_shown_and_every_shown_metric_exists() {
    let dashboard = dashboard();
    let targets = panels(&dashboard).iter().filter_map(|panel| panel["targets"].as_array());
    let queries = targets.flatten().map(|target| target["expr"].as_str().unwrap());
    let shown: BTreeSet<_> = queries.flat_map(names).collect();
    assert_eq!(shown, documented());
    // Variables and texts name only existing metrics, too.
    let anywhere: BTreeSet<_> = names(DASHBOARD).collect();
    assert_eq!(anywhere, documented());
}

#[test]
fn the_dashboard_has_the_form_that_grafana_imports() {
    let dashboard = dashboard();
    assert!(
        dashboard["schemaVersion"].as_u64().unwrap() >= 36,
        "data sources are objects since version 36"
    );
    assert!(dashboard["title"].is_string() && dashboard["uid"].is_string());
    let ids: BTreeSet<_> = panels(&dashboard).iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels(&dashboard).len(), "each panel has its own id");
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap();
        let place = &panel["gridPos"];
        let right = place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap();
        assert!(
            right <= 24 && place["h"].as_u64().is_some() && place["y"].as_u64().is_some(),
            "{title}"
        );
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].is_string(), "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{title}");
    }
}
