use super::*;
use crate::layout::builtin;
use crate::layout::keyspace::Keyspace;
use proptest::collection::vec;
use proptest::prelude::*;
use registry_core::{Cursor, Revision};

const NAMES: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];

fn key_meta(name: usize, modified: u64, lease: i64) -> KeyMeta<'static> {
    KeyMeta { key: NAMES[name], created: modified, modified, lease }
}

/// Returns the proof of these keys, as a load computes it.
fn proof_of(keys: &[KeyMeta<'_>]) -> Proof {
    let mut proof = Proof::new(0xab);
    for key in keys {
        proof.add(*key);
    }
    proof
}

/// The committed cursor texts. They may change only with a new format number.
#[test]
fn cursors_have_the_text_of_the_golden_file() {
    let layout = builtin::from_target(&"etcd://h/root".parse().unwrap()).unwrap();
    let service = Keyspace::new(layout).service(&"user.rpc".parse().unwrap()).unwrap();
    let one = proof_of(&[key_meta(0, 3, 0x1f)]);
    let mut history = History::new(one.clone(), Some(key_meta(0, 3, 0x1f).key));
    history.advance(EventType::Delete, key_meta(0, 7, 0));
    let proofs = [
        ("one key", one.clone()),
        ("no key", Proof::new(0xab)),
        ("several keys of one revision", proof_of(&[key_meta(0, 3, 0x1f), key_meta(1, 3, 0x1f)])),
        ("newest key deleted", history.proof),
        ("negative lease", proof_of(&[key_meta(0, 3, -11)])),
        ("withdrawn record", one.with_withdrawn(true)),
    ];
    let golden = include_str!("../../golden/cursor.txt");
    assert_eq!(golden.lines().count(), proofs.len());
    for (line, (what, proof)) in golden.lines().zip(proofs) {
        let cursor = service.origin().cursor(Revision::new(7), &proof);
        assert_eq!(line, format!("{what}: {cursor}"));
        let read: Cursor = line.split_once(": ").unwrap().1.parse().unwrap();
        assert_eq!(read, cursor);
        assert_eq!(service.origin().proof::<Proof>(&read).unwrap(), proof);
    }
}

#[test]
fn invalid_proof_text_is_refused() {
    for bad in [
        "",
        "ab",
        "ab.2",
        "ab.2.3",
        "ab.2.p3",
        "ab.2.d3.1",
        "x.2.d3",
        "ab.-2.d3",
        "ab.2.p3.1.1",
        "ab.2.t3",
        "ab.2.t3.0",
        "ab.2.w",
        "ab.2.p3.1.w.w",
        "ab.2.p3.-b",
    ] {
        assert_eq!(bad.parse::<Proof>(), Err(()), "{bad}");
    }
}

#[test]
fn proof_detects_another_count_newest_key_or_cluster() {
    let keys = [key_meta(0, 2, 5), key_meta(1, 3, 6)];
    let proof = proof_of(&keys);
    assert!(proof.check(2, Some(keys[1])).is_ok() && proof.check_cluster(0xab).is_ok());
    assert!(proof.check(3, Some(keys[1])).is_err());
    assert!(proof.check(2, Some(key_meta(1, 2, 6))).is_err(), "put earlier");
    assert!(proof.check(2, Some(key_meta(1, 3, 7))).is_err(), "put by another lease");
    assert!(proof.check(0, None).is_err());
    assert!(proof.check_cluster(1).is_err());
    assert!(Proof::new(0xab).check(0, None).is_ok());
    assert!(Proof::new(0xab).check(1, Some(keys[0])).is_err());
}

#[test]
fn keys_of_one_revision_are_recognised_by_their_common_lease() {
    let pair = proof_of(&[key_meta(0, 3, 5), key_meta(1, 3, 5)]);
    assert!(pair.check(2, Some(key_meta(0, 3, 5))).is_ok());
    assert!(pair.check(2, Some(key_meta(0, 3, 6))).is_err(), "put by another lease");
    for others in [[key_meta(1, 3, 6), key_meta(2, 3, 5)], [key_meta(1, 3, 0), key_meta(2, 3, 0)]] {
        let mixed = proof_of(&[&[key_meta(0, 3, 5)], &others[..]].concat());
        for under in [0, 5, 6] {
            assert!(mixed.check(3, Some(key_meta(0, 3, under))).is_ok(), "any lease is accepted");
        }
    }
}

#[test]
fn newest_key_survives_deletions_of_other_keys() {
    let keys = [key_meta(0, 2, 5), key_meta(1, 3, 6)];
    let mut history = History::new(proof_of(&keys), Some(keys[1].key));
    history.advance(EventType::Delete, key_meta(0, 4, 0));
    assert_eq!(history.proof(), &proof_of(&keys[1..]));
    history.advance(EventType::Delete, key_meta(1, 5, 0));
    assert!(history.proof().check(0, None).is_ok());
    assert!(history.proof().check(0, Some(key_meta(1, 5, 6))).is_err(), "newer than the deletion");
}

proptest! {
    /// Each revision puts some keys, under a lease of 0 to 2, and deletes others. At each revision, the proof
    /// of a load and the updated proofs, including one resumed there, must all hold.
    #[test]
    fn proof_holds_after_any_history(
        revisions in vec(vec(proptest::option::of(proptest::option::of(0_i64..3)), 4), 1..20),
        resumes: u32,
    ) {
        let mut keys: Vec<Option<KeyMeta<'_>>> = vec![None; 4];
        let mut history = History::new(Proof::new(0xab), None);
        for (n, events) in revisions.iter().enumerate() {
            let revision = 2 + n as u64;
            for (name, event) in events.iter().enumerate() {
                match event {
                    Some(Some(lease)) => {
                        let created = keys[name].map_or(revision, |old| old.created);
                        let key = KeyMeta { created, ..key_meta(name, revision, *lease) };
                        keys[name] = Some(key);
                        history.advance(EventType::Put, key);
                    }
                    Some(None) if keys[name].take().is_some() => {
                        history.advance(EventType::Delete, key_meta(name, revision, 0));
                    }
                    _ => {}
                }
            }
            let existing: Vec<KeyMeta<'_>> = keys.iter().copied().flatten().collect();
            let last = existing.iter().map(|key| key.modified).max();
            // etcd may return any of the keys put by one revision.
            let newest = existing.iter().filter(|key| Some(key.modified) == last).copied();
            let loaded = proof_of(&existing);
            for newest in newest.clone().map(Some).chain(last.is_none().then_some(None)) {
                let count = existing.len() as u64;
                prop_assert!(history.proof().check(count, newest).is_ok(), "{:?}", history);
                prop_assert!(loaded.check(count, newest).is_ok(), "{:?}", loaded);
            }
            match resumes >> (n % 16 * 2) & 3 {
                0 => history = History::new(loaded, newest.last().map(|key| key.key)),
                1 => history = History::new(history.proof, newest.last().map(|key| key.key)),
                _ => {}
            }
        }
    }
}
