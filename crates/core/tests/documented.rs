//! `docs/runtimes.md` has a row for every runtime, and for nothing else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use whose_core::runtime::REGISTRY;

#[test]
fn every_runtime_has_its_row() {
    let text = include_str!("../../../docs/runtimes.md");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let vectors = include_str!("../../../fixtures/cgroup-vectors.json");
    let vectors: Vec<serde_json::Value> = serde_json::from_str(vectors).unwrap();
    let vectors: BTreeSet<&str> =
        vectors.iter().filter_map(|vector| vector["expect"]["runtime"].as_str()).collect();
    let names: Vec<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    let registry: Vec<&str> = REGISTRY.iter().map(|r| r.engine().0).collect();
    assert_eq!(names, registry);
    for row in rows {
        assert_eq!(row.len(), 7, "{row:?}");
        assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
        let known = ["live", "captured", "fixture", "source"];
        let mut how = row[6].split(", ");
        assert!(how.all(|word| known.contains(&word)), "{row:?}");
        // Proxmox' cgroups are LXC's by their text alone.
        let name = row[0].trim_matches('`');
        let by_text = vectors.contains(name) || name == "proxmox";
        assert_eq!(row[6].split(", ").any(|word| word == "source"), by_text, "{row:?}");
    }
}
