//! The guide can be typed in as it stands on the page. (That its listings compile and run is seen by the doc tests.)

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A file of the repository.
fn read(path: impl AsRef<Path>) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(path)).unwrap()
}

fn listings() -> Vec<String> {
    let guide = read("docs/hand-over-your-state.md");
    let listings = guide.split("```rust\n").skip(1);
    let listings: Vec<_> = listings
        .map(|l| l.split("```").next().unwrap().to_string())
        .collect();
    assert!(listings.len() > 4);
    listings
}

/// The ids in `#[kstate(id = ...)]`.
fn ids(source: &str) -> BTreeSet<String> {
    let ids = source.split("kstate(id = ").skip(1);
    ids.map(|id| id.split([',', ')']).next().unwrap().to_string())
        .collect()
}

/// Rustdoc hides lines that begin with `# `; Markdown shows them.
#[test]
fn its_listings_are_whole_programs_without_hidden_lines() {
    for listing in listings() {
        assert!(listing.contains("fn main()"), "{listing}");
        let hidden = |line: &&str| line.trim() == "#" || line.trim_start().starts_with("# ");
        assert_eq!(listing.lines().find(hidden), None, "{listing}");
    }
}

#[test]
fn its_ids_are_none_of_the_kernels() {
    let mut taken = BTreeSet::new();
    let mut folders: Vec<PathBuf> = vec!["kernel/src".into(), "trace/src".into()];
    while let Some(folder) = folders.pop() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for entry in fs::read_dir(root.join(&folder)).unwrap() {
            let path = Path::new(&folder).join(entry.unwrap().file_name());
            match root.join(&path).is_dir() {
                true => folders.push(path),
                false => taken.append(&mut ids(&read(&path))),
            }
        }
    }
    assert!(taken.contains("0x13"), "{taken:?}");
    let number = |id: &String| {
        u32::from_str_radix(id.trim_start_matches("0x").replace('_', "").as_str(), 16).unwrap()
    };
    // As the guide says.
    assert!(
        taken
            .iter()
            .map(number)
            .all(|id| !(0x20..=0x1_0000).contains(&id))
    );
    for listing in listings() {
        let both: Vec<_> = taken.intersection(&ids(&listing)).cloned().collect();
        assert!(both.is_empty(), "{both:?} in {listing}");
    }
}
