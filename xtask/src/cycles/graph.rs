//! Cycles in a graph of files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The names of used items, by the using file and the defining file.
pub(super) type Uses = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// An edge of the graph: one file uses items of another.
#[derive(Debug, PartialEq)]
pub(super) struct Edge<'a> {
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    pub(super) names: Vec<&'a str>,
}

/// The edges of a cycle, in order.
pub(super) type Cycle<'a> = Vec<Edge<'a>>;

/// Returns cycles that together contain every edge that is part of a cycle. Each is a shortest cycle of one of its
/// edges.
pub(super) fn cycles(uses: &Uses) -> Vec<Cycle<'_>> {
    let mut covered = BTreeSet::new();
    let mut cycles = Vec::new();
    for (from, to) in uses.iter().flat_map(|(from, files)| files.keys().map(move |to| (from, to))) {
        if covered.contains(&(from.as_str(), to.as_str())) {
            continue;
        }
        let Some(path_back) = shortest(uses, to, from) else { continue };
        let files: Vec<&str> = [from.as_str()].into_iter().chain(path_back).collect();
        covered.extend(files.windows(2).map(|pair| (pair[0], pair[1])));
        cycles.push(files.windows(2).map(|pair| edge(uses, pair[0], pair[1])).collect());
    }
    cycles
}

fn edge<'a>(uses: &'a Uses, from: &'a str, to: &'a str) -> Edge<'a> {
    Edge { from, to, names: uses[from][to].iter().map(String::as_str).collect() }
}

/// Returns the files on the shortest path, including both ends.
fn shortest<'a>(uses: &'a Uses, from: &'a str, to: &'a str) -> Option<Vec<&'a str>> {
    let mut previous = BTreeMap::from([(from, None)]);
    let mut queue = VecDeque::from([from]);
    while let Some(file) = queue.pop_front() {
        if file == to {
            let mut path: Vec<&str> =
                std::iter::successors(Some(file), |file| previous[file]).collect();
            path.reverse();
            return Some(path);
        }
        for next in uses.get(file).into_iter().flat_map(BTreeMap::keys) {
            if !previous.contains_key(next.as_str()) {
                previous.insert(next, Some(file));
                queue.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str)]) -> Uses {
        let mut uses = Uses::new();
        for (from, to) in edges {
            let files = uses.entry((*from).to_owned()).or_default();
            files.entry((*to).to_owned()).or_default().insert("Item".to_owned());
        }
        uses
    }

    fn found<'a>(uses: &'a Uses) -> Vec<Vec<&'a str>> {
        let files = |cycle: Cycle<'a>| cycle.iter().map(|edge| edge.from).collect();
        cycles(uses).into_iter().map(files).collect()
    }

    #[test]
    fn graph_without_cycles_has_none() {
        assert!(found(&graph(&[("a", "b"), ("a", "c"), ("b", "c")])).is_empty());
    }

    #[test]
    fn each_cycle_is_a_shortest_one() {
        let uses = graph(&[("a", "b"), ("b", "c"), ("c", "a"), ("b", "d"), ("d", "e"), ("e", "b")]);
        assert_eq!(found(&uses), [vec!["a", "b", "c"], vec!["b", "d", "e"]]);
        let uses = graph(&[("a", "b"), ("b", "a"), ("b", "c"), ("c", "a")]);
        assert_eq!(found(&uses), [vec!["a", "b"], vec!["b", "c", "a"]]);
    }

    #[test]
    fn file_that_only_leads_to_a_cycle_is_not_part_of_it() {
        let uses = graph(&[("above", "a"), ("a", "b"), ("b", "a"), ("b", "below")]);
        assert_eq!(found(&uses), [["a", "b"]]);
    }
}
