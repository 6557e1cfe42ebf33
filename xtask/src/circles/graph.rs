//! Circles in a graph of files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// By the file that uses and the file that is used: the names of the items.
pub(super) type Uses = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// One file uses another.
#[derive(Debug, PartialEq)]
pub(super) struct Edge<'a> {
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    pub(super) names: Vec<&'a str>,
}

/// Edges that lead back to where they start.
pub(super) type Circle<'a> = Vec<Edge<'a>>;

/// Circles that together have every edge that is in one; each is the shortest of one of its edges.
pub(super) fn circles(uses: &Uses) -> Vec<Circle<'_>> {
    let mut shown = BTreeSet::new();
    let mut circles = Vec::new();
    for (from, to) in uses.iter().flat_map(|(from, files)| files.keys().map(move |to| (from, to))) {
        if shown.contains(&(from.as_str(), to.as_str())) {
            continue;
        }
        let Some(back) = shortest(uses, to, from) else { continue };
        let files: Vec<&str> = [from.as_str()].into_iter().chain(back).collect();
        shown.extend(files.windows(2).map(|pair| (pair[0], pair[1])));
        circles.push(files.windows(2).map(|pair| edge(uses, pair[0], pair[1])).collect());
    }
    circles
}

fn edge<'a>(uses: &'a Uses, from: &'a str, to: &'a str) -> Edge<'a> {
    Edge { from, to, names: uses[from][to].iter().map(String::as_str).collect() }
}

/// The files of the shortest way, with both ends.
fn shortest<'a>(uses: &'a Uses, from: &'a str, to: &'a str) -> Option<Vec<&'a str>> {
    let mut before = BTreeMap::from([(from, None)]);
    let mut queue = VecDeque::from([from]);
    while let Some(file) = queue.pop_front() {
        if file == to {
            let mut way: Vec<&str> =
                std::iter::successors(Some(file), |file| before[file]).collect();
            way.reverse();
            return Some(way);
        }
        for next in uses.get(file).into_iter().flat_map(BTreeMap::keys) {
            if !before.contains_key(next.as_str()) {
                before.insert(next, Some(file));
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
        let files = |circle: Circle<'a>| circle.iter().map(|edge| edge.from).collect();
        circles(uses).into_iter().map(files).collect()
    }

    #[test]
    fn a_graph_without_circles_has_none() {
        assert!(found(&graph(&[("a", "b"), ("a", "c"), ("b", "c")])).is_empty());
    }

    #[test]
    fn each_circle_is_as_short_as_it_can_be() {
        let uses = graph(&[("a", "b"), ("b", "c"), ("c", "a"), ("b", "d"), ("d", "e"), ("e", "b")]);
        assert_eq!(found(&uses), [vec!["a", "b", "c"], vec!["b", "d", "e"]]);
        let uses = graph(&[("a", "b"), ("b", "a"), ("b", "c"), ("c", "a")]);
        assert_eq!(found(&uses), [vec!["a", "b"], vec!["b", "c", "a"]]);
    }

    #[test]
    fn a_file_that_only_leads_to_a_circle_is_not_in_it() {
        let uses = graph(&[("above", "a"), ("a", "b"), ("b", "a"), ("b", "below")]);
        assert_eq!(found(&uses), [["a", "b"]]);
    }
}
