//! Signing against real Django, in both directions, with random values.

mod python;

use std::time::Duration;

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Map, Value, json};
use throng_core::sign::{self, Keys, Signer, TimestampSigner, session};

use self::python::Python;

const NOW_S: i64 = 1_700_000_000;
const ROUNDS: usize = 400;

#[test]
fn django_and_throng_sign_alike_and_read_each_other() {
    let Some(mut django) = Django::start() else { return };
    let keys = keys();
    for text in samples("\\PC{0,40}", ROUNDS) {
        let salt = format!("salt {}", text.len());
        let signer = Signer::new(&keys).salt(salt.clone());
        let signed = signer.sign(&text);
        assert_eq!(django.ask("sign", json!([text, salt])), json!(signed));
        assert_eq!(django.ask("unsign", json!([signed, salt])), json!(text));

        let signer = TimestampSigner::new(&keys).salt(salt.clone());
        let stamped = signer.sign(&text, NOW_S);
        assert_eq!(django.ask("stamp", json!([text, salt])), json!(stamped));
        assert_eq!(django.ask("unstamp", json!([stamped, salt])), json!(text));
        let late = signer.sign(&text, NOW_S - 61);
        assert_eq!(django.refusal("unstamp", json!([late, salt])), "SignatureExpired");
        let limit = Some(Duration::from_secs(60));
        assert!(matches!(
            signer.unsign(&late, limit, NOW_S),
            Err(sign::SignError::Expired { age_s: 61, .. })
        ));

        let mut forged = stamped.clone();
        forged.insert(0, 'x');
        assert_eq!(django.refusal("unstamp", json!([forged, salt])), "BadSignature");
        assert!(signer.unsign(&forged, limit, NOW_S).is_err());
    }
}

#[test]
fn django_and_throng_dump_the_same_text_and_load_each_others() {
    let Some(mut django) = Django::start() else { return };
    let keys = keys();
    let limit = Some(Duration::from_secs(60));
    for value in samples_of(any_json(), ROUNDS) {
        let ours = sign::dumps(&keys, "s", &value, false, NOW_S).unwrap();
        assert_eq!(django.ask("dumps", json!([value, "s", false])), json!(ours), "{value}");
        // Compressed bytes may differ; what they mean may not.
        let packed = sign::dumps(&keys, "s", &value, true, NOW_S).unwrap();
        assert_eq!(django.ask("loads", json!([packed, "s"])), value);
        let theirs = django.ask("dumps", json!([value, "s", true]));
        let theirs = theirs.as_str().unwrap();
        let read: Value = sign::loads(&keys, "s", theirs, limit, NOW_S).unwrap();
        assert_eq!(read, value);
    }
    let long = json!({"again": "and again ".repeat(100)});
    let packed = sign::dumps(&keys, "s", &long, true, NOW_S).unwrap();
    assert!(packed.starts_with('.'));
    assert_eq!(django.ask("loads", json!([packed, "s"])), long);
}

#[test]
fn a_session_goes_from_django_to_throng_and_back() {
    let Some(mut django) = Django::start() else { return };
    let keys = keys();
    for value in samples_of(any_json(), ROUNDS / 4) {
        let values = json!({"_auth_user_id": "7", "cart": value, "note": "é".repeat(60)});
        let cookie = django.ask("session_write", json!([values]));
        let age = Some(Duration::from_secs(1_209_600));
        let read = session::decode(&keys, cookie.as_str().unwrap(), age, NOW_S).unwrap();
        assert_eq!(Value::Object(read.clone()), values);
        let cookie = session::encode(&keys, &read, NOW_S).unwrap();
        assert_eq!(django.ask("session_read", json!([cookie])), values);
    }
}

#[test]
fn a_key_can_be_changed_without_signing_anybody_out() {
    let Some(mut django) = Django::start() else { return };
    let old = Keys::new("the one before");
    let cookie =
        session::encode(&old, &Map::from_iter([("u".to_owned(), json!(1))]), NOW_S).unwrap();
    assert_eq!(django.ask("session_read", json!([cookie])), json!({"u": 1}));
    assert_eq!(session::decode(&keys(), &cookie, None, NOW_S).unwrap()["u"], 1);
    let unknown = Signer::new(&Keys::new("another")).salt("s").sign("x");
    assert_eq!(django.refusal("unsign", json!([unknown, "s"])), "BadSignature");
}

#[test]
fn an_auth_hash_is_djangos() {
    let Some(mut django) = Django::start() else { return };
    for password in ["pbkdf2_sha256$1000000$salt$hash=", "!unusable", "", "é"] {
        let theirs = django.ask("auth_hash", json!([password]));
        assert_eq!(theirs, json!(session::auth_hash(&keys(), password)));
        assert!(session::is_auth_hash(&keys(), password, theirs.as_str().unwrap()));
    }
}

fn keys() -> Keys {
    Keys::new("throng-test-secret").fallback("the one before")
}

/// Values that JSON can hold, with whole numbers and floats that are hard to print.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-1e18..1e18_f64).prop_map(Value::from),
        (-20..23_i32).prop_map(|power| Value::from(10_f64.powi(power))),
        "\\PC{0,30}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            proptest::collection::btree_map("\\PC{0,12}", inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn samples(pattern: &str, count: usize) -> Vec<String> {
    samples_of(proptest::string::string_regex(pattern).expect("the pattern is one"), count)
}

/// The same values in every run.
fn samples_of<T>(strategy: impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..count)
        .map(|_| strategy.new_tree(&mut runner).expect("no value is rejected").current())
        .collect()
}

/// Real Django, where THRONG_TEST_PYTHON has it.
struct Django(Python);

impl Django {
    fn start() -> Option<Self> {
        Python::start(include_str!("django.py")).map(Self)
    }

    fn ask(&mut self, command: &str, arguments: Value) -> Value {
        let mut answer = self.0.ask(&json!([command, NOW_S, arguments]));
        let ok = answer.get_mut("ok").map(Value::take);
        ok.unwrap_or_else(|| panic!("django refuses {command} {arguments}: {answer}"))
    }

    fn refusal(&mut self, command: &str, arguments: Value) -> String {
        let answer = self.0.ask(&json!([command, NOW_S, arguments]));
        let refusal = answer["refused"].as_str();
        refusal.unwrap_or_else(|| panic!("django accepts {command} {arguments}")).to_owned()
    }
}
