//! Signing up and in, and passwords that Django wrote.

use std::time::Duration;

use boxoffice::{
    accounts::{self, Cost, Hasher, Refusal, SignIn, SignUp, Verdict},
    models::{User, users},
};
use sea_orm::{EntityTrait, IntoActiveModel};

use crate::house::House;

/// Little work, so that tests are quick; the format is the same.
fn hasher() -> Hasher {
    Hasher::new(Cost { memory_kib: 64, passes: 1 })
}

fn form(username: &str, email: &str, password: &str) -> SignUp {
    SignUp {
        username: username.into(),
        email: email.into(),
        name: String::new(),
        password: password.into(),
    }
}

async fn sign_up(house: &House, form: SignUp) -> Result<User, Vec<String>> {
    let result = accounts::sign_up(&house.cx.db, &hasher(), house.stamp(), &form).await.unwrap();
    result.map_err(|problems| {
        problems.iter().map(|(field, problem)| format!("{field} {problem}")).collect()
    })
}

async fn sign_in(house: &House, login: &str, password: &str) -> Result<User, Refusal> {
    let typed = SignIn { login, password, client: "192.0.2.7" };
    let now_ms = house.cx.clock.now_ms();
    accounts::sign_in(&house.cx.db, &hasher(), now_ms, typed).await.unwrap()
}

#[tokio::test]
async fn who_signs_up_can_sign_in_by_name_and_by_address() {
    let house = House::open().await;
    let ana = sign_up(&house, form(" Ana ", "Ana@Example.com", "open sesame")).await.unwrap();
    assert_eq!((&*ana.username, &*ana.email, &*ana.name), ("ana", "ana@example.com", "ana"));
    assert!(ana.password.starts_with("argon2$argon2id$v=19$m=64,t=1,p=1$"), "{}", ana.password);
    for login in ["ana", "ANA ", "ana@example.com"] {
        assert_eq!(sign_in(&house, login, "open sesame").await.unwrap().id, ana.id);
    }
    for (login, password) in [("ana", "open sesam"), ("ana", ""), ("bob", "open sesame"), ("", "")]
    {
        assert_eq!(sign_in(&house, login, password).await.unwrap_err(), Refusal::Wrong);
    }
    house.site.finish().await;
}

#[tokio::test]
async fn each_field_of_a_wrong_form_has_its_problem() {
    let house = House::open().await;
    sign_up(&house, form("ana", "ana@example.com", "open sesame")).await.unwrap();
    for (username, email, password, problem) in [
        ("", "b@example.com", "open sesame", "username needs 3 to 30"),
        ("b", "b@example.com", "open sesame", "username needs 3 to 30"),
        ("ben ben", "b@example.com", "open sesame", "username may have only"),
        ("bèn", "b@example.com", "open sesame", "username may have only"),
        ("-ben", "b@example.com", "open sesame", "username must start"),
        ("ana", "b@example.com", "open sesame", "username is taken"),
        ("ben", "", "open sesame", "email is needed"),
        ("ben", "b@@example.com", "open sesame", "email does not look"),
        ("ben", "b@example", "open sesame", "email does not look"),
        ("ben", "b@example.com\nBcc: c@d.ee", "open sesame", "email does not look"),
        ("ben", "ANA@example.com", "open sesame", "email has an account"),
        ("ben", "b@example.com", "short", "password needs at least 8"),
        ("ben", "b@example.com", "Password1", "password is too easy"),
        ("ben", "b@example.com", "12345678", "password is too easy"),
        ("benjamin", "b@example.com", "benjamin", "password is the same"),
    ] {
        let problems = sign_up(&house, form(username, email, password)).await.unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(problem), "{problems:?} for {problem}");
    }
    let all = sign_up(&house, form("", "", "")).await.unwrap_err();
    assert_eq!(all.len(), 3, "{all:?}");
    house.site.finish().await;
}

/// Made by Django 5.2's hashers out of `open sesame`.
const PBKDF2: &str = "pbkdf2_sha256$1000$NaCl$HXFtR4Wq9nX15UFe59SIO0oUmWZvCKM10gAxK/sIshM=";

/// As above, with two lanes.
const ARGON2_DJANGO: &str = "argon2$argon2id$v=19$m=128,t=1,p=2$c2FsdHNhbHRzYWx0$0Uxjhv3hF+afYQIHEub4fQLNxq7JwO3+S7TczhZtEZQ";

#[tokio::test]
async fn a_password_of_django_signs_in_and_is_replaced() {
    let house = House::open().await;
    let mut ana = house.user("ana").await;
    users::Entity::delete_by_id(ana.id).exec(&house.cx.db).await.unwrap();
    ana.password = PBKDF2.into();
    let insert = users::Entity::insert(ana.clone().into_active_model());
    insert.exec_without_returning(&house.cx.db).await.unwrap();
    assert_eq!(sign_in(&house, "ana", "open").await.unwrap_err(), Refusal::Wrong);
    let first = sign_in(&house, "ana", "open sesame").await.unwrap();
    assert!(first.password.starts_with("argon2$argon2id$"), "{}", first.password);
    let stored = users::find(&house.cx.db, ana.id).await.unwrap().unwrap();
    assert_eq!(stored.password, first.password);
    let second = sign_in(&house, "ana", "open sesame").await.unwrap();
    assert_eq!(second.password, first.password);
    house.site.finish().await;
}

#[tokio::test]
async fn hashes_of_django_are_read_and_nonsense_is_just_wrong() {
    let hasher = hasher();
    for stored in [PBKDF2, ARGON2_DJANGO] {
        let right = hasher.check("open sesame", Some(stored)).await.unwrap();
        assert_eq!(right, Verdict::RightButOld, "{stored}");
        assert_eq!(hasher.check("else", Some(stored)).await.unwrap(), Verdict::Wrong);
    }
    let own = hasher.hash("open sesame").await.unwrap();
    assert_eq!(hasher.check("open sesame", Some(&own)).await.unwrap(), Verdict::Right);
    let costlier = Hasher::new(Cost { memory_kib: 128, passes: 1 });
    let old = costlier.check("open sesame", Some(&own)).await.unwrap();
    assert_eq!(old, Verdict::RightButOld);
    for nonsense in [
        "",
        "!",
        "!unusable",
        "$",
        "$$$$$",
        "md5$a$b",
        "pbkdf2_sha256$0$a$b",
        "pbkdf2_sha256$x$a$b",
        "pbkdf2_sha256$99999999999$NaCl$AAAA",
        "pbkdf2_sha256$1$a$b$c",
        "argon2$argon2id$v=19$m=1$a$b",
        "argon2$argon2id$v=19$m=4294967295,t=1,p=1$c2FsdHNhbHQ$AAAA",
        "argon2$argon2id$v=16$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAAAA",
        "argon2$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$",
    ] {
        let wrong = hasher.check("open sesame", Some(nonsense)).await.unwrap();
        assert_eq!(wrong, Verdict::Wrong, "{nonsense}");
    }
    assert_eq!(hasher.check("open sesame", None).await.unwrap(), Verdict::Wrong);
}

#[tokio::test]
async fn ten_failures_are_followed_by_a_wait_and_an_owner_is_forgiven() {
    let house = House::open().await;
    let ana = sign_up(&house, form("ana", "ana@example.com", "open sesame")).await.unwrap();
    for _ in 0..9 {
        assert_eq!(sign_in(&house, "ana", "guess").await.unwrap_err(), Refusal::Wrong);
    }
    assert_eq!(sign_in(&house, "ana", "open sesame").await.unwrap().id, ana.id);
    for _ in 0..10 {
        assert_eq!(sign_in(&house, "ana", "guess").await.unwrap_err(), Refusal::Wrong);
    }
    let refused = sign_in(&house, "ana", "open sesame").await.unwrap_err();
    assert_eq!(refused, Refusal::TooMany { wait_s: 900 });
    assert_eq!(refused.to_string(), "Too many tries. Wait 15 minutes, then try again.");
    house.site.advance(Duration::from_secs(900));
    assert_eq!(sign_in(&house, "ana", "open sesame").await.unwrap().id, ana.id);
    house.cx.queue.push(boxoffice::tasks::ForgetTries {}).await.unwrap();
    house.site.run_tasks().await;
    house.site.finish().await;
}

#[tokio::test]
async fn a_session_ends_with_its_account_or_password() {
    let house = House::open().await;
    let ana = sign_up(&house, form("ana", "ana@example.com", "open sesame")).await.unwrap();
    let id = ana.id.to_string();
    let stored = accounts::password_of(&house.cx.db, &id).await.unwrap();
    assert_eq!(stored, Some(ana.password));
    for stranger in ["", "x", "-1", "99999999999999999999"] {
        assert_eq!(accounts::password_of(&house.cx.db, stranger).await.unwrap(), None);
    }
    house.site.finish().await;
}

/// Reads `hash` and `password` lines, and answers whether Django takes them; then makes its own.
const DJANGO: &str = r#"
import sys
from django.conf import settings
settings.configure(PASSWORD_HASHERS=[
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
    "django.contrib.auth.hashers.Argon2PasswordHasher",
])
from django.contrib.auth.hashers import check_password, make_password
password, stored = sys.argv[1:]
print(check_password(password, stored))
print(check_password("else", stored))
print(make_password(password))
print(make_password(password, hasher="argon2"))
"#;

#[tokio::test]
async fn django_reads_our_passwords_and_we_read_its() {
    let Some(python) = std::env::var_os("THRONG_TEST_PYTHON") else {
        println!("skip: THRONG_TEST_PYTHON names no Python with Django");
        return;
    };
    let password = "Zürich ☂ 12€";
    let hasher = Hasher::new(Cost::default());
    let stored = hasher.hash(password).await.unwrap();
    let mut command = tokio::process::Command::new(python);
    let output = command.args(["-c", DJANGO, password, &stored]).output().await.unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let told: Vec<&str> = told.lines().collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(told[..2], ["True", "False"], "{errors}");
    for made in &told[2..4] {
        let verdict = hasher.check(password, Some(made)).await.unwrap();
        assert_eq!(verdict, Verdict::RightButOld, "{made}");
        assert_eq!(hasher.check("else", Some(made)).await.unwrap(), Verdict::Wrong);
    }
}
