//! Which of many endpoints a client connects to.
//!
//! Rendezvous hashing (Thaler and Ravishankar, 1998): each client ranks all addresses by a hash of
//! itself and the address, and takes the first. An address that comes or goes moves no other.

use registry_core::Address;
use std::cmp::Reverse;

/// The `size` addresses that `client` connects to. Who is left of them stays, whatever comes or goes.
pub(crate) fn subset<T>(
    client: u64,
    size: usize,
    mut endpoints: Vec<T>,
    address: impl Fn(&T) -> &Address,
) -> Vec<T> {
    if endpoints.len() <= size {
        return endpoints;
    }
    endpoints.sort_by_cached_key(|endpoint| Reverse(rank(client, address(endpoint).as_str())));
    endpoints.truncate(size);
    endpoints
}

/// What a client is known by, from its name.
pub(crate) fn client_of(name: &str) -> u64 {
    rank(0, name)
}

/// Where `address` stands with `client`. Part of what clients of different versions agree on if they
/// share a name: FNV-1a, and the finalizer of `SplitMix64` for what FNV leaves alike.
fn rank(client: u64, address: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in client.to_le_bytes().iter().chain(address.as_bytes()) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn fleet(instances: u32) -> Vec<Address> {
        let address = |n: u32| format!("10.0.{}.{}:80", n / 250, n % 250 + 1).parse().unwrap();
        (0..instances).map(address).collect()
    }

    fn chosen(client: u64, fleet: &[Address]) -> BTreeSet<Address> {
        subset(client, 32, fleet.to_vec(), |address| address).into_iter().collect()
    }

    #[test]
    fn one_instance_that_comes_or_goes_moves_one_connection_at_most() {
        let all = fleet(1_001);
        for client in 0..3 {
            let before = chosen(client, &all[..1_000]);
            assert_eq!(before.len(), 32);
            let with_one_more = chosen(client, &all);
            assert!(with_one_more.difference(&before).count() <= 1);
            for gone in &before {
                let left: Vec<_> = all[..1_000].iter().filter(|a| *a != gone).cloned().collect();
                let after = chosen(client, &left);
                assert_eq!(after.difference(&before).count(), 1, "who went is replaced");
                assert_eq!(before.difference(&after).count(), 1, "all others stay");
            }
        }
    }

    #[test]
    fn clients_choose_differently_and_each_the_same_again() {
        let all = fleet(1_000);
        let mut served = vec![0_u32; all.len()];
        for client in 0..250 {
            let chosen = chosen(client_of(&format!("client-{client}")), &all);
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
    fn a_small_service_is_connected_to_as_a_whole() {
        let all = fleet(32);
        assert_eq!(subset(1, 32, all.clone(), |address| address), all);
    }
}
