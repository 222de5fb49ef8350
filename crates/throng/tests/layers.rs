//! The import law: no edge between our crates that the table in ARCHITECTURE.md lacks.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

#[test]
fn every_import_between_our_crates_is_in_the_architecture_table() {
    let house = house();
    let law = law(&std::fs::read_to_string(house.join("ARCHITECTURE.md")).expect("the table"));
    let crates = crates(&house);

    let broken = broken(&law, &crates);
    assert!(broken.is_empty(), "ARCHITECTURE.md, \"Who may import whom\":\n{}", broken.join("\n"));
}

#[test]
fn an_edge_that_the_table_lacks_is_named() {
    let law = law("| crate | folder | may import |\n|---|---|---|\n\
                   | a | crates/a | - |\n| b | crates/b | a |\n| gone | crates/gone | - |\n");
    let crates = BTreeMap::from([
        ("a".to_owned(), entry("crates/a", &["b"])),
        ("b".to_owned(), entry("crates/elsewhere", &["a"])),
        ("new".to_owned(), entry("crates/new", &[])),
    ]);

    assert_eq!(
        broken(&law, &crates),
        [
            "a imports b, which its row does not allow",
            "b is in crates/elsewhere, its row says crates/b",
            "new has no row",
            "gone has a row and is not in the workspace",
        ]
    );
}

/// A crate's folder and the crates of ours that it imports or may import.
type Entry = (String, BTreeSet<String>);

fn broken(law: &BTreeMap<String, Entry>, crates: &BTreeMap<String, Entry>) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, (folder, imports)) in crates {
        let Some((lawful_folder, allowed)) = law.get(name) else {
            broken.push(format!("{name} has no row"));
            continue;
        };
        if folder != lawful_folder {
            broken.push(format!("{name} is in {folder}, its row says {lawful_folder}"));
        }
        for import in imports.difference(allowed) {
            broken.push(format!("{name} imports {import}, which its row does not allow"));
        }
    }
    for name in law.keys().filter(|name| !crates.contains_key(*name)) {
        broken.push(format!("{name} has a row and is not in the workspace"));
    }
    broken
}

/// Reads the rows of the one table whose head is `crate | folder | may import`.
fn law(text: &str) -> BTreeMap<String, Entry> {
    text.lines()
        .map(|line| line.trim().trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>())
        .skip_while(|cells| *cells != ["crate", "folder", "may import"])
        .skip(2) // the head and its rule
        .take_while(|cells| cells.len() == 3)
        .map(|cells| {
            let allowed =
                cells[2].split_whitespace().filter(|name| *name != "-").map(str::to_owned);
            (cells[0].to_owned(), (cells[1].to_owned(), allowed.collect()))
        })
        .collect()
}

/// Asks cargo for the workspace's crates and their dependencies of every kind.
fn crates(house: &Path) -> BTreeMap<String, Entry> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(house)
        .output()
        .expect("cargo metadata");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata's JSON");

    let packages = metadata["packages"].as_array().expect("packages");
    let ours: BTreeSet<&str> = packages.iter().map(|package| text(&package["name"])).collect();
    packages
        .iter()
        .map(|package| {
            let name = text(&package["name"]);
            let manifest = Path::new(text(&package["manifest_path"]));
            let folder = manifest.parent().and_then(|folder| folder.strip_prefix(house).ok());
            let folder = folder.expect("a member's folder is in the house").display().to_string();
            let imports = package["dependencies"].as_array().expect("dependencies").iter();
            let imports = imports.map(|dependency| text(&dependency["name"]));
            let imports: Vec<&str> = imports.filter(|import| ours.contains(import)).collect();
            (name.to_owned(), entry(&folder, &imports))
        })
        .collect()
}

fn entry(folder: &str, imports: &[&str]) -> Entry {
    (folder.to_owned(), imports.iter().map(|import| (*import).to_owned()).collect())
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn house() -> PathBuf {
    let house = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    house.canonicalize().expect("the workspace's root")
}
