//! Scenarios of the conformance kit that a store does not pass yet, by name. The issue that makes a store pass one
//! takes it out of this file.

/// What etcd does not pass yet: a silent member is noticed by pings only, after 15 s.
pub const ETCD: &[&str] = &["silence::a_watch_of_a_silent_source_ends_in_time"];

/// What etcd does not pass yet in the layout go-zero: where only the public key was deleted, the side key that is left
/// makes a holder that comes back the same one.
pub const ETCD_GO_ZERO: &[&str] = &[
    "silence::a_watch_of_a_silent_source_ends_in_time",
    "takeover::a_holder_that_left_and_came_back_is_another_holder",
];

/// What Redis does not pass yet: a silent feed connection is noticed after 7 s.
pub const REDIS: &[&str] = &["silence::a_watch_of_a_silent_source_ends_in_time"];
