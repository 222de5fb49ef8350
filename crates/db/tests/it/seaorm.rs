//! SeaORM's own tests, unchanged, over our handle on each engine, replicas included.
//!
//! Their sources stay where cargo keeps them. A crate under the target folder names them as its test
//! targets and gives them `seaorm/shim.rs` as the crate `sea_orm`. Building it takes minutes, so it
//! is part of the long run (`THRONG_TEST_LONG`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::servers::{self, mariadb::MariaDb, postgres::Postgres};

#[test]
fn seaorms_own_tests_pass_on_sqlite() {
    let Some(suite) = Suite::build("sqlx-sqlite") else { return };
    let done = suite.run(FILES, &[("DATABASE_URL", "sqlite::memory:")]);
    done.check("SQLite", 100);
}

#[test]
fn seaorms_own_tests_pass_on_mariadb_with_a_replica() {
    let Some(suite) = Suite::build("sqlx-mysql") else { return };
    let Some(cluster) = MariaDb::start(1) else { return servers::skip("no MariaDB") };
    let url = "mysql://site:secret@127.0.0.1";
    suite
        .run(FILES, &[("DATABASE_URL", url), ("THRONG_SUITE_HOSTS", &cluster.hosts())])
        .check("MariaDB", 100);
}

#[test]
fn seaorms_own_tests_pass_on_postgresql_with_a_replica_and_fail_without_tokens() {
    let Some(suite) = Suite::build("sqlx-postgres") else { return };
    let Some(cluster) = Postgres::start(1) else { return servers::skip("no PostgreSQL") };
    let hosts = cluster.hosts();
    let with = [("DATABASE_URL", "postgres://postgres@127.0.0.1"), ("THRONG_SUITE_HOSTS", &hosts)];
    suite.run(FILES, &with).check("PostgreSQL", 100);
    cluster.set(1, "recovery_min_apply_delay", "30ms");
    suite.run(FEW, &with).check("PostgreSQL, whose replica is 30 ms late", 50);
    let forgets = [with[0], with[1], ("THRONG_SUITE_FORGETS", "1")];
    let done = suite.run(FEW, &forgets);
    done.tell("PostgreSQL, whose replica is 30 ms late, without tokens");
    assert!(done.failed >= 10, "the control: without tokens tests must fail");
}

/// The compiled tests of one engine.
struct Suite {
    folder: PathBuf,
    programs: Vec<(String, PathBuf)>,
}

/// What a run of them gave.
#[derive(Default)]
struct Done {
    files: usize,
    passed: u64,
    failed: u64,
    reads: u64,
    on_replicas: u64,
    report: String,
}

impl Suite {
    /// None outside the long run.
    fn build(engine: &str) -> Option<Self> {
        if std::env::var_os("THRONG_TEST_LONG").is_none() {
            println!("the long run runs SeaORM's tests");
            return None;
        }
        let folder = make_crate();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["test", "--no-run", "--features", engine, "--message-format", "json"]);
        cargo.current_dir(&folder).stderr(Stdio::inherit());
        let done = cargo.output().unwrap();
        assert!(done.status.success(), "SeaORM's tests do not compile for {engine}");
        let programs = String::from_utf8_lossy(&done.stdout).lines().filter_map(program).collect();
        Some(Self { folder, programs })
    }

    /// Runs the tests of some files, one file after the other.
    fn run(&self, files: &[&str], environment: &[(&str, &str)]) -> Done {
        let mut done = Done::default();
        let counts = self.folder.join(format!("counts-{}", std::process::id()));
        for (name, program) in self.programs.iter().filter(|(name, _)| files.contains(&&**name)) {
            let mut tests = Command::new(program);
            tests.args(["--test-threads", "2"]).env("RUST_LOG", "off").current_dir(&self.folder);
            tests.env("THRONG_SUITE_COUNTS", &counts).envs(environment.iter().copied());
            let output = tests.stdin(Stdio::null()).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            let Some((passed, failed)) = result(&text) else {
                panic!("{name} did not end: {text}{}", String::from_utf8_lossy(&output.stderr));
            };
            done.files += 1;
            done.passed += passed;
            done.failed += failed;
            if failed > 0 {
                done.report += &format!("{name}:\n{text}\n");
            }
        }
        for line in fs::read_to_string(&counts).unwrap_or_default().lines() {
            let (role, reads) = line.split_once(' ').unwrap();
            let reads: u64 = reads.parse().unwrap();
            done.reads += reads;
            done.on_replicas += if role == "replica" { reads } else { 0 };
        }
        let _ = fs::remove_file(counts);
        done
    }
}

impl Done {
    fn tell(&self, on: &str) {
        let Self { files, passed, failed, reads, on_replicas, .. } = self;
        println!("SeaORM's tests on {on}: {files} files, {passed} passed, {failed} failed");
        println!("  {on_replicas} of {reads} reads on the replica");
    }

    fn check(&self, on: &str, at_least: u64) {
        self.tell(on);
        assert_eq!(self.failed, 0, "{}", self.report);
        assert!(self.passed >= at_least, "only {} tests ran on {on}", self.passed);
    }
}

/// The test program that a line of cargo's messages tells of.
fn program(line: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    let is_test = message["target"]["kind"][0] == "test";
    let path = message["executable"].as_str().filter(|_| is_test)?;
    Some((message["target"]["name"].as_str()?.to_owned(), path.into()))
}

/// `test result: ok. 3 passed; 0 failed; …`
fn result(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find(|line| line.starts_with("test result:"))?;
    let count = |what: &str| {
        let before = line.split(what).next()?.trim_end();
        before.rsplit(' ').next()?.parse().ok()
    };
    Some((count("passed")?, count("failed;")?))
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
    write("shim/src/connection.rs", include_str!("../seaorm/connection.rs"));
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

/// SeaORM's test files that touch a connection.
const FILES: &[&str] = &[
    "active_enum_from_query_result_tests",
    "active_enum_tests",
    "active_model_ex_tests",
    "basic",
    "belongs_to_legacy_tests",
    "bits_tests",
    "byte_primary_key_tests",
    "collection_tests",
    "connection_tests",
    "crud_tests",
    "cursor_tests",
    "delete_by_id_tests",
    "derive_iden_tests",
    "dyn_table_name_tests",
    "embedding_tests",
    "empty_insert_tests",
    "entity_loader_tests",
    "enum_primary_key_tests",
    "event_trigger_tests",
    "execute_unprepared_tests",
    "exists_tests",
    "from_query_result_tests",
    "host_network_tests",
    "insert_default_tests",
    "json_struct_tests",
    "json_vec_tests",
    "junction_active_behaviour_tests",
    "loader_tests",
    "multi_select_tests",
    "paginator_tests",
    "parallel_tests",
    "partial_model_tests",
    "pi_tests",
    "query_tests",
    "raw_sql_tests",
    "relational_tests",
    "returning_tests",
    "schema_sync_tests",
    "select_four_many_tests",
    "self_join_tests",
    "sequential_op_tests",
    "sql_err_tests",
    "stream_tests",
    "string_primary_key_tests",
    "text_uuid_tests",
    "time_crate_tests",
    "timestamp_tests",
    "transaction_tests",
    "update_without_returning_tests",
    "upsert_tests",
    "uuid_fmt_tests",
    "uuid_tests",
    "value_type_tests",
];

/// Some of them for the control.
const FEW: &[&str] = &[
    "basic",
    "crud_tests",
    "cursor_tests",
    "exists_tests",
    "from_query_result_tests",
    "loader_tests",
    "paginator_tests",
    "query_tests",
    "relational_tests",
    "returning_tests",
    "self_join_tests",
    "sequential_op_tests",
    "upsert_tests",
];
