//! SeaORM's own tests, unchanged, over our handle on SQLite.
//!
//! Their sources stay where cargo keeps them. A crate under the target folder names them as its test
//! targets and gives them `seaorm/shim.rs` as the crate `sea_orm`. Building it takes minutes, so it
//! is part of the long run (`THRONG_TEST_LONG`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::servers;

#[test]
fn seaorms_own_tests_pass_on_sqlite() {
    run("sqlx-sqlite", "sqlite::memory:");
}

fn run(engine: &str, url: &str) {
    if std::env::var_os("THRONG_TEST_LONG").is_none() {
        return println!("the long run runs SeaORM's tests");
    }
    let folder = make_crate();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--no-fail-fast", "--features", engine]).current_dir(folder);
    cargo.env("DATABASE_URL", url).env("RUST_LOG", "off");
    // Each test makes a database of its own name, and some of them share tables.
    cargo.args(["--", "--test-threads", "2"]);
    assert!(cargo.status().unwrap().success(), "SeaORM's tests on {engine}");
}

/// Writes the crate and gives its folder.
fn make_crate() -> PathBuf {
    let room = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = room.parent().unwrap().parent().unwrap();
    let folder = workspace.join("target/seaorm-suite");
    fs::create_dir_all(folder.join("shim/src")).unwrap();
    fs::create_dir_all(folder.join("src")).unwrap();
    let (version, tests) = sea_orm(workspace);
    let write = |path: &str, text: &str| {
        let path = folder.join(path);
        // Untouched files keep their time, so that nothing is built twice.
        if fs::read_to_string(&path).ok().as_deref() != Some(text) {
            fs::write(path, text).unwrap();
        }
    };
    write("src/lib.rs", "");
    write("shim/src/lib.rs", include_str!("../seaorm/shim.rs"));
    let room = room.display().to_string();
    let fill = |template: &str| template.replace("{version}", &version).replace("{room}", &room);
    write("shim/Cargo.toml", &fill(include_str!("../seaorm/shim.toml")));
    let target = |name: &&str| {
        format!("[[test]]\nname = \"{name}\"\npath = \"{}/{name}.rs\"\n\n", tests.display())
    };
    let targets: String = FILES.iter().map(target).collect();
    write("Cargo.toml", &(fill(include_str!("../seaorm/suite.toml")) + &targets));
    if !folder.join("Cargo.lock").exists() {
        fs::copy(workspace.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    }
    folder
}

/// The version of SeaORM that this workspace uses, and the folder of its tests.
fn sea_orm(workspace: &Path) -> (String, PathBuf) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1"]).current_dir(workspace);
    let metadata: serde_json::Value = serde_json::from_str(&servers::output(&mut cargo)).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "sea-orm").unwrap();
    let manifest = Path::new(package["manifest_path"].as_str().unwrap());
    let version = package["version"].as_str().unwrap().to_owned();
    (version, manifest.with_file_name("tests"))
}

/// SeaORM's files that have been seen to pass. Those that use its own pools cannot.
const FILES: &[&str] = &[
    "execute_unprepared_tests",
    "exists_tests",
    "from_query_result_tests",
    "insert_default_tests",
];
