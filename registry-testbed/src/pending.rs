//! Scenarios of the conformance kit that a store does not pass yet, by name. The issue that makes a store pass one
//! takes it out of this file.

/// What etcd does not pass yet: a silent member is noticed by pings only, after 15 s.
pub const ETCD: &[&str] = &[
    "silence::a_watch_of_a_silent_source_ends_in_time",
    "silence::every_watch_of_a_silent_source_ends_in_time",
];
