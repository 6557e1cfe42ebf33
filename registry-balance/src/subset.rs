//! Rendezvous hashing (Thaler and Ravishankar, 1998): the subset of many endpoints that a client
//! connects to.

use crate::hash::StableHasher;
use std::cmp::Reverse;
use std::hash::Hasher;

/// Returns the `size` endpoints that `client` connects to.
///
/// Each client ranks all addresses by a hash of its number and the address, and takes the first
/// `size`. An endpoint that is added or removed replaces at most one other. Takes O(n log n) for n
/// endpoints; `size` endpoints or fewer are returned unchanged.
///
/// ```
/// use registry_balance::{client_number, subset};
///
/// let fleet = vec!["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];
/// let client = client_number("host-1");
/// let chosen = subset(client, 2, fleet.clone(), |address| address);
/// assert_eq!(chosen.len(), 2);
/// assert_eq!(chosen, subset(client, 2, fleet, |address| address));
/// ```
pub fn subset<T>(
    client: u64,
    size: usize,
    mut endpoints: Vec<T>,
    address: impl Fn(&T) -> &str,
) -> Vec<T> {
    if endpoints.len() <= size {
        return endpoints;
    }
    endpoints.sort_by_cached_key(|endpoint| Reverse(rank(client, address(endpoint))));
    endpoints.truncate(size);
    endpoints
}

/// Returns the number of the client with that name, for [`subset`].
///
/// ```
/// use registry_balance::client_number;
///
/// assert_eq!(client_number("host-1"), client_number("host-1"));
/// assert_ne!(client_number("host-1"), client_number("host-2"));
/// ```
pub fn client_number(name: &str) -> u64 {
    rank(0, name)
}

/// Returns the rank of `address` for `client`. It is the same in all versions of this library.
fn rank(client: u64, address: &str) -> u64 {
    let mut hasher = StableHasher::default();
    hasher.write(&client.to_le_bytes());
    hasher.write(address.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn fleet(instances: u32) -> Vec<String> {
        let address = |n: u32| format!("10.0.{}.{}:80", n / 250, n % 250 + 1);
        (0..instances).map(address).collect()
    }

    fn chosen(client: u64, fleet: &[String]) -> BTreeSet<String> {
        subset(client, 32, fleet.to_vec(), String::as_str).into_iter().collect()
    }

    #[test]
    fn added_or_removed_endpoint_replaces_at_most_one_other() {
        let all = fleet(1_001);
        for client in 0..3 {
            let before = chosen(client, &all[..1_000]);
            assert_eq!(before.len(), 32);
            let with_one_more = chosen(client, &all);
            assert!(with_one_more.difference(&before).count() <= 1);
            for gone in &before {
                let left: Vec<_> = all[..1_000].iter().filter(|a| *a != gone).cloned().collect();
                let after = chosen(client, &left);
                assert_eq!(after.difference(&before).count(), 1, "the one that went is replaced");
                assert_eq!(before.difference(&after).count(), 1, "all others stay");
            }
        }
    }

    #[test]
    fn subsets_differ_between_clients_and_are_stable_for_each() {
        let all = fleet(1_000);
        let mut served = vec![0_u32; all.len()];
        for client in 0..250 {
            let chosen = chosen(client_number(&format!("client-{client}")), &all);
            for (n, address) in all.iter().enumerate() {
                served[n] += u32::from(chosen.contains(address));
            }
        }
        // 8 on average, with the spread of chance: a standard deviation of 2.8.
        assert!(served.iter().all(|count| *count < 24), "{served:?}");
        assert!(served.iter().filter(|count| **count == 0).count() < 5, "{served:?}");
        assert_eq!(chosen(7, &all), chosen(7, &all));
        assert_eq!(rank(1, "10.0.0.1:80"), 0x1ccf_f9a3_df8a_9952, "clients agree on it");
    }

    #[test]
    fn subset_of_a_small_service_is_the_whole_service() {
        let all = fleet(32);
        assert_eq!(subset(1, 32, all.clone(), String::as_str), all);
    }
}
