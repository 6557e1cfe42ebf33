//! The recommendation that follows from all findings.

use super::finding::{Advice, Choice, Finding};

/// The number of claims. A run of fewer experiments leads to no recommendation.
pub(super) const CLAIMS: usize = 5;
/// The limits of every run.
pub(super) const LIMITS: [&str; 3] = [
    "The library needs Redis 6.2 or later. Its own tests run on Redis 7.0, Redis 8.0 and Valkey 8.1.",
    "Not tested here: `?ack=replicas:1` and `?ack=fsync`, with which Redis loses fewer acknowledged writes. `?ack=fsync` needs Redis 7.2.",
    "Not measured here: how long it takes until all instances are listed again after Redis lost everything. Each registers again after its next renewal, which is due every third of its ttl.",
];

/// Returns when to choose a store, and with which settings: as the findings say, and what no measurement decides.
fn advice(choice: Choice, findings: &[Finding]) -> [Vec<String>; 2] {
    let facts = [
        Advice::With(Choice::Redis, "a Redis of its own with `maxmemory-policy noeviction`, not your cache's: the library refuses `allkeys-*`".to_owned()),
        Advice::When(Choice::Etcd, "Go programs share the registry (go-zero, gRPC-Go, Kratos, Kitex)".to_owned()),
    ];
    let [mut when, mut with] = [const { Vec::new() }; 2];
    for advice in findings.iter().rev().flat_map(|finding| &finding.advice).chain(&facts) {
        match advice {
            Advice::When(of, text) if *of == choice => when.push(text.clone()),
            Advice::With(of, text) if *of == choice => with.push(text.clone()),
            _ => {}
        }
    }
    [when, with]
}

/// Returns the conclusion, and what speaks against plain Redis. Two designs on it are tested.
pub(super) fn conclusion(findings: &[Finding]) -> [String; 2] {
    let failed: Vec<_> = findings.iter().filter_map(|finding| finding.failed.clone()).collect();
    let plain = ["yes", "only one of its two designs", "no"][failed.len().min(2)];
    let library = match advice(Choice::Redis, findings) {
        [when, _] if when.is_empty() => "no".to_owned(),
        _ => format!("yes, unless {}", advice(Choice::Etcd, findings)[0].join(", or ")),
    };
    let conclusion = format!("Plain Redis: {plain}. Redis through `service-registry`: {library}.");
    let failed = failed.join(", and ");
    [conclusion, if failed.is_empty() { failed } else { format!("On plain Redis, {failed}.") }]
}

/// Returns the rows of the decision table: the choice, when to choose it, and its settings.
pub(super) fn rows(findings: &[Finding]) -> impl Iterator<Item = [String; 3]> {
    let rows = [
        (Choice::Redis, "**Redis with `service-registry`**", "nothing below applies. Then "),
        (Choice::Etcd, "**etcd**", ""),
        (Choice::Neither, "**neither**", ""),
    ];
    rows.into_iter().filter_map(|(choice, name, default)| {
        let [when, with] = advice(choice, findings);
        let row = [name.to_owned(), format!("{default}{}", when.join(", or ")), with.join("; ")];
        (!when.is_empty()).then_some(row)
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn the_conclusion_follows_from_the_advice_and_from_the_designs_that_failed() {
        let mut findings = sample(Verdict::InPart).findings;
        let [text, because] = conclusion(&findings);
        assert_eq!(text, "Plain Redis: yes. Redis through `service-registry`: no.");
        assert!(because.is_empty() && rows(&findings).count() == 1, "Go programs need etcd");
        findings[0].failed = Some("a hash lacks 5".to_owned());
        findings[1].failed = Some("keys lack 7".to_owned());
        findings[1].advice.push(Advice::When(Choice::Redis, "it is fast".to_owned()));
        findings[2].advice.push(Advice::When(Choice::Etcd, "it survives".to_owned()));
        let [text, because] = conclusion(&findings);
        let expected =
            "Plain Redis: no. Redis through `service-registry`: yes, unless it survives, or Go";
        assert!(text.starts_with(expected), "{text}");
        assert_eq!(because, "On plain Redis, a hash lacks 5, and keys lack 7.");
        assert_eq!(rows(&findings).next().unwrap()[1], "nothing below applies. Then it is fast");
    }
}
