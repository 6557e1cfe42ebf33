//! What the README says of the package is what `Cargo.toml` has.

const README: &str = include_str!("../README.md");

#[test]
fn the_readme_states_the_minimum_supported_rust_version() {
    let version = env!("CARGO_PKG_RUST_VERSION");
    let stated = format!("supported Rust version is {version}.");
    assert!(README.contains(&stated), "README.md does not say: {stated}");
}

#[test]
fn every_store_in_the_table_names_features_that_exist() {
    let manifest = include_str!("../Cargo.toml");
    let rows = README.lines().filter(|line| line.starts_with("| `") && line.contains("://"));
    let cells = rows.map(|row| row.split(" | ").nth(1).expect("a row has a feature"));
    let features: Vec<_> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert!(features.contains(&"mem") && features.contains(&"tls"), "{features:?}");
    for feature in features {
        assert!(manifest.contains(&format!("\n{feature} = [")), "no feature `{feature}`");
    }
}
