//! The command line of the bare program: help, exit codes, one clear line.

use std::process::{Command, Output};

use tempfile::TempDir;

/// Runs the program in an empty folder, with these words and variables.
pub(crate) fn run(folder: &TempDir, words: &[&str], vars: &[(&str, &str)]) -> Output {
    // One that starts by mistake must not hold up the others.
    let mut command = Command::new("timeout");
    command
        .args(["60", env!("CARGO_BIN_EXE_throng")])
        .args(words)
        .current_dir(folder)
        .env_remove("NO_COLOR");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("THRONG_")) {
        command.env_remove(name);
    }
    command.envs(vars.iter().copied()).output().unwrap()
}

/// The program refuses to start: exit code 2, one line that contains `words`, no data folder.
fn check_refusal(vars: &[(&str, &str)], args: &[&str], words: &str) {
    let folder = tempfile::tempdir().unwrap();
    let output = run(&folder, args, vars);
    let said = String::from_utf8(output.stderr).unwrap();
    let complaint: Vec<&str> = said.lines().filter(|line| line.starts_with("throng: ")).collect();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(complaint.len() == 1 && complaint[0].contains(words), "{said}");
    assert!(!said.contains('\x1b'), "no colour where there is no terminal: {said}");
}

#[test]
fn help_is_as_it_was_read_before() {
    let folder = tempfile::tempdir().unwrap();
    let commands: &[&[&str]] = &[
        &[],
        &["web"],
        &["worker"],
        &["migrate"],
        &["config"],
        &["cache"],
        &["cache", "get"],
        &["cache", "set"],
        &["cache", "delete"],
        &["cache", "where"],
        &["cache", "stats"],
        &["cache", "probe"],
        &["db"],
        &["db", "status"],
        &["db", "promote"],
        &["db", "copy"],
        &["task"],
        &["task", "push"],
        &["task", "list"],
        &["task", "dead"],
        &["task", "counts"],
        &["task", "show"],
        &["task", "wait"],
        &["task", "retry"],
        &["task", "cancel"],
        &["task", "purge"],
        &["task", "pause"],
        &["task", "resume"],
        &["task", "move"],
    ];
    let edge: &[&[&str]] = match cfg!(feature = "edge") {
        true => &[&["edge"], &["edge", "check"], &["edge", "reload"]],
        false => &[],
    };
    for words in commands.iter().chain(edge) {
        let output = run(&folder, &[*words, &["--help"]].concat(), &[]);
        assert!(output.status.success());
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains("Example"), "{words:?} shows no example");
        // The front page lists the commands that this build has.
        let build = if cfg!(feature = "edge") && words.is_empty() { "with edge" } else { "" };
        insta::assert_snapshot!(format!("help {}{build}", words.join(" ")).trim(), help);
    }
}

#[test]
fn wrong_config_stops_the_start_with_one_line_and_code_2() {
    check_refusal(&[("THRONG_WEB_LISTNE", "x")], &[], "did you mean `THRONG_WEB_LISTEN`?");
    let listen = ("THRONG_WEB_LISTEN", "127.0.0.1:0");
    check_refusal(&[("THRONG_CONFIG", "no.toml")], &[], "cannot read config file `no.toml`");
    check_refusal(&[listen, ("THRONG_CACHE_URL", "redys://x")], &[], "cache cannot open `redys:`");
    check_refusal(&[listen, ("THRONG_DATABASE_URL", "sqlite:/proc/x/y.db")], &[], "`database.url`");
    check_refusal(
        &[listen, ("THRONG_DATA", "/proc/x")],
        &[],
        "cannot write the data folder `/proc/x`",
    );
    check_refusal(&[listen, ("THRONG_ENV", "production")], &[], "`secret_key` must be set");
    check_refusal(&[("THRONG_WEB_LISTEN", "256.1.1.1:80")], &[], "cannot listen on `256.1.1.1:80`");
    check_refusal(&[], &["worker"], "`worker` cannot run alone: the bus is `memory:`");
    check_refusal(&[], &["worker", "--not", "slow"], "`--not`) names `slow`, which is no task of");
}

#[test]
fn wrong_usage_is_code_2() {
    let folder = tempfile::tempdir().unwrap();
    for words in [&["wep"][..], &["task"], &["task", "list", "--state", "gone"], &["--colour"]] {
        assert_eq!(run(&folder, words, &[]).status.code(), Some(2), "{words:?}");
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing was started");
}

#[test]
fn a_port_in_use_is_named_and_leaves_nothing_behind() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let output = run(&folder, &[], &[("THRONG_WEB_LISTEN", &address)]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("cannot listen on `{address}`: another program listens there")));
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing was started");
}

#[test]
fn production_wants_migrations_applied_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let vars = &[
        ("THRONG_ENV", "production"),
        ("THRONG_SECRET_KEY", "a secret that only this test knows"),
        ("THRONG_WEB_LISTEN", "127.0.0.1:0"),
    ];
    let output = run(&folder, &[], vars);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("run `throng migrate`") && said.contains("queue_0001"), "{said}");

    let plan = run(&folder, &["migrate", "--plan"], vars);
    assert!(String::from_utf8(plan.stdout).unwrap().contains("pending queue_0001"));
    let done = run(&folder, &["migrate", "--json"], vars);
    let done: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(done["applied"].as_array().unwrap().len() >= 2, "{done}");
    let again = run(&folder, &["migrate"], vars);
    assert!(String::from_utf8(again.stdout).unwrap().contains("nothing to do"));
}

#[test]
fn a_database_of_a_newer_program_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    assert!(run(&folder, &["migrate"], &[]).status.success());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use throng::db::{Db, Migration};
        const NEWER: &[Migration] = &[Migration::new("shop_0009_future", |_| {})];
        let db = Db::sqlite(folder.path().join("data/site.db")).await.unwrap();
        let all = [throng::db::outbox::MIGRATIONS, throng::queue::MIGRATIONS, NEWER];
        let _ = db.migrate(&all).await.unwrap();
        db.close().await;
    });
    let output = run(&folder, &[], &[("THRONG_WEB_LISTEN", "127.0.0.1:0")]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("shop_0009_future"), "{said}");
}

#[test]
fn config_prints_sources_and_json() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("throng.toml"), "[web]\nlisten = \"127.0.0.1:81\"\n")
        .unwrap();
    let vars = &[("THRONG_LOG_LEVEL", "debug")];
    let printed = run(&folder, &["config"], vars);
    insta::assert_snapshot!("config", String::from_utf8(printed.stdout).unwrap());
    let printed = run(&folder, &["config", "--json"], vars);
    let keys: serde_json::Value = serde_json::from_slice(&printed.stdout).unwrap();
    let listen = keys.as_array().unwrap().iter().find(|key| key["key"] == "web.listen").unwrap();
    assert_eq!(listen["source"], "throng.toml:2");
    assert_eq!(listen["value"], "127.0.0.1:81");
}

#[test]
fn tasks_are_looked_at_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let task = |words: &[&str]| run(&folder, &[&["task"], words].concat(), &[]);
    let unknown = task(&["push", "mail", "{}"]);
    assert_eq!(unknown.status.code(), Some(2));
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(said.contains("no task is called `mail`"), "{said}");
    let missing = task(&["show", "0f9c"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8(missing.stderr).unwrap().contains("no task `0f9c`"));
    assert_eq!(String::from_utf8(task(&["counts", "--json"]).stdout).unwrap(), "[]\n");
    let purged = task(&["purge", "default", "--state", "dead"]);
    assert_eq!(String::from_utf8(purged.stdout).unwrap(), "forgot 0 tasks\n");
    assert_eq!(task(&["move"]).status.code(), Some(2), "neither from nor to");
}

/// Pushes, mends, moves and takes back tasks of a program that this one does not know.
fn check_foreign_tasks(there: &str) {
    let folder = tempfile::tempdir().unwrap();
    let home = "sqlite:home.db";
    let queue = format!("shop-{}", std::process::id());
    let said = |words: &[&str]| {
        let output = run(&folder, &[&["task"], words].concat(), &[]);
        let wrong = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{words:?}: {wrong}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let push = ["push", "shop.add", "[2, 3]", "--queue", &queue, "--url", home, "--json"];
    let ids: Vec<String> = (0..3).map(|_| said(&push)["id"].as_str().unwrap().to_owned()).collect();
    let late = said(&[&push[..], &["--delay", "3600"]].concat())["id"].clone();
    let late = late.as_str().unwrap();
    let moved = said(&["move", "--from", home, "--to", there, "--json"]);
    assert_eq!(moved[0]["queue"], queue.as_str());
    assert_eq!((&moved[0]["ready"], &moved[0]["waiting"]), (&3.into(), &1.into()));
    assert_eq!(said(&["counts", "--url", home, "--json"]), serde_json::json!([]));

    let show = |id: &str| said(&["show", id, "--url", there, "--json"]);
    assert_eq!(
        (&show(&ids[0])["state"], &show(late)["state"]),
        (&"queued".into(), &"waiting".into())
    );
    said(&["cancel", late, "--url", there, "--json"]);
    said(&["retry", late, "--arguments", "[20, 30]", "--url", there, "--json"]);
    let mended = show(late);
    assert_eq!((&mended["state"], &mended["arguments"]), (&"queued".into(), &[20, 30][..].into()));
    let paused = said(&["pause", &queue, "--url", there, "--json"]);
    assert!(paused["paused"].as_array().unwrap().contains(&queue.as_str().into()));
    let stuck =
        run(&folder, &["task", "move", "--from", there, "--to", home, "--queue", &queue], &[]);
    assert_eq!(stuck.status.code(), Some(1));
    assert!(String::from_utf8(stuck.stderr).unwrap().contains("it is paused where it is"));
    said(&["resume", &queue, "--url", there, "--json"]);
    let back = said(&["move", "--from", there, "--to", home, "--queue", &queue, "--json"]);
    assert_eq!(back[0]["ready"], 4, "{there}: {back}");
    let listed = run(&folder, &["task", "list", "--url", home, "--json"], &[]).stdout;
    let listed: Vec<serde_json::Value> = String::from_utf8(listed)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let order: Vec<&str> = listed.iter().rev().map(|task| task["id"].as_str().unwrap()).collect();
    assert_eq!(order, [&ids[0], &ids[1], &ids[2], late], "there and back in their order");
    assert_eq!(
        said(&["purge", &queue, "--state", "queued", "--url", home, "--json"])["forgotten"],
        4
    );
    let nothing = run(&folder, &["task", "list", "--url", "sqlite:none.db"], &[]);
    assert_eq!(nothing.status.code(), Some(2), "a database without a queue");
}

#[test]
fn tasks_move_into_the_database_of_a_site_and_out_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let site = "sqlite:data/site.db";
    let ran = |words: &[&str]| {
        let output = run(&folder, words, &[]);
        let wrong = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{words:?}: {wrong}");
        String::from_utf8(output.stdout).unwrap()
    };
    ran(&["migrate"]);
    ran(&["task", "push", "shop.add", "[2, 3]", "--queue", "shop", "--url", "sqlite:away.db"]);
    ran(&["task", "move", "--from", "sqlite:away.db", "--to", site]);
    for url in [&[][..], &["--url", site]] {
        let listed = ran(&[&["task", "list", "--json"], url].concat());
        assert_eq!(listed.lines().count(), 1, "{url:?}: {listed}");
    }
    ran(&["task", "push", "shop.add", "[4, 5]", "--queue", "shop", "--url", site]);
    ran(&["task", "move", "--from", site, "--to", "sqlite:away.db"]);
    assert_eq!(ran(&["task", "list", "--json", "--url", "sqlite:away.db"]).lines().count(), 2);
}

#[test]
fn tasks_of_other_programs_are_pushed_mended_and_moved() {
    check_foreign_tasks("sqlite:there.db");
    #[cfg(feature = "redis")]
    match std::env::var("THRONG_TEST_REDIS_URL") {
        Ok(url) => check_foreign_tasks(&url),
        Err(_) => println!("skip: THRONG_TEST_REDIS_URL is not set"),
    }
}
