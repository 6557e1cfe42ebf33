use super::*;

const TTL: Duration = Duration::from_secs(10);

fn instance(service: &str, id: &str) -> Instance {
    let (service, id) = (service.parse().unwrap(), id.parse().unwrap());
    Instance::from_parts(service, id, "10.0.0.1:80".parse().unwrap())
}

fn put(model: &mut Model, service: &str, id: &str) -> Lease {
    model.register(Duration::ZERO, &instance(service, id), &Claim::new(TTL).unwrap()).unwrap()
}

fn load(model: &mut Model, service: &str) -> Snapshot {
    model.load(Duration::ZERO, &service.parse().unwrap())
}

fn batches(model: &mut Model, service: &str, after: &Cursor) -> Result<usize, ErrorKind> {
    let batches = model.batches(Duration::ZERO, &service.parse().unwrap(), after);
    batches.map(|batches| batches.len()).map_err(|error| error.kind())
}

#[test]
fn leases_expire_in_the_order_of_their_renewed_deadlines() {
    let mut model = Model::new(1);
    let service = "a".parse().unwrap();
    let before = load(&mut model, "a");
    let (first, _) = (put(&mut model, "a", "1"), put(&mut model, "a", "2"));
    model.keep_alive(Duration::from_secs(5), &first).unwrap();
    assert_eq!(model.next_deadline(&service), Some(TTL), "it may be early, but not late");
    model.expire(Duration::from_secs(14), &service);
    assert_eq!(model.load(Duration::from_secs(14), &service).instances().len(), 1);
    let all = model.batches(Duration::from_secs(15), &service, before.cursor()).unwrap();
    let ids: Vec<_> = all.iter().skip(2).map(|batch| batch.changes[0].id().as_str()).collect();
    assert_eq!(ids, ["2", "1"]);
    assert_eq!(model.next_deadline(&service), None);
    assert!(model.leases.is_empty());
}

#[test]
fn cursor_is_valid_only_in_its_own_branch() {
    let mut model = Model::new(1);
    put(&mut model, "a", "1");
    let kept = load(&mut model, "a");
    let backup = model.clone();
    put(&mut model, "a", "2");
    let undone = load(&mut model, "a");
    let old_primary = model.clone();

    model.restore(Duration::ZERO, backup, 2);
    assert_eq!(batches(&mut model, "a", undone.cursor()), Err(ErrorKind::Diverged));
    put(&mut model, "a", "3");
    let later = load(&mut model, "a");
    assert_eq!(later.cursor().revision(), undone.cursor().revision());
    assert_eq!(batches(&mut model, "a", undone.cursor()), Err(ErrorKind::Diverged));
    assert_eq!(batches(&mut model, "a", kept.cursor()), Ok(1));

    model.restore(Duration::ZERO, old_primary, 3);
    put(&mut model, "a", "4");
    assert_eq!(batches(&mut model, "a", later.cursor()), Err(ErrorKind::Diverged));
    assert_eq!(batches(&mut model, "a", undone.cursor()), Ok(1), "its branch is restored");
    assert_eq!(batches(&mut model, "a", kept.cursor()), Ok(2));
}

#[test]
fn cursor_of_another_store_is_invalid() {
    let after = load(&mut Model::new(1), "a");
    assert_eq!(batches(&mut Model::new(2), "a", after.cursor()), Err(ErrorKind::Invalid));
}

#[test]
fn backup_of_another_store_is_restored_without_its_history() {
    let mut other = Model::new(1);
    let foreign = load(&mut other, "a");
    put(&mut other, "a", "1");
    let mut model = Model::new(2);
    model.restore(Duration::ZERO, other, 3);
    assert_eq!(batches(&mut model, "a", foreign.cursor()), Err(ErrorKind::Invalid));
    let mut ours = load(&mut model, "a");
    assert_eq!(ours.instances().len(), 1);
    put(&mut model, "a", "2");
    let all = model.batches(Duration::ZERO, &"a".parse().unwrap(), ours.cursor()).unwrap();
    ours.apply(&all[0]).unwrap();
    assert_eq!(ours, load(&mut model, "a"));
}

#[test]
fn history_is_bounded_and_old_cursors_of_a_removed_service_are_compacted() {
    let mut model = Model::new(1).with_history_limit(3);
    let before = load(&mut model, "a");
    let lease = put(&mut model, "a", "1");
    model.deregister(Duration::ZERO, &lease);
    assert_eq!(batches(&mut model, "a", before.cursor()), Ok(2));
    for n in 0..5 {
        put(&mut model, "b", &n.to_string());
    }
    assert_eq!(model.history.len(), 7);
    model.trim_history();
    assert_eq!(model.history.len(), 3);
    assert!(!model.services.contains_key("a"));
    assert_eq!(batches(&mut model, "a", before.cursor()), Err(ErrorKind::Compacted));
    let after = load(&mut model, "a");
    put(&mut model, "a", "1");
    assert_eq!(batches(&mut model, "a", after.cursor()), Ok(1));
    assert_eq!(batches(&mut model, "a", before.cursor()), Err(ErrorKind::Compacted));
}

#[test]
fn renewal_does_not_change_the_expiry_queue() {
    let mut model = Model::new(1);
    let lease = put(&mut model, "a", "1");
    for second in 0..9 {
        model.keep_alive(Duration::from_secs(second), &lease).unwrap();
        assert_eq!(model.services["a"].expiry_queue.len(), 1);
    }
    model.expire(TTL, lease.instance().service());
    assert_eq!(model.next_deadline(lease.instance().service()), Some(Duration::from_secs(18)));
}

#[test]
fn outage_longer_than_every_ttl_expires_no_lease() {
    let mut model = Model::new(1);
    let lease = put(&mut model, "a", "1");
    let backup = model.clone();
    let hour = Duration::from_secs(3600);
    model.restore(hour, backup, 2);
    assert_eq!(model.load(hour, lease.instance().service()).instances().len(), 1);
    model.keep_alive(hour + TTL / 3, &lease).unwrap();
    assert!(model.load(hour + TTL * 2, lease.instance().service()).records().is_empty());
}
