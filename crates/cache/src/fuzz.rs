//! What strangers' bytes can do to the readers: nothing. Values and replies made up of their own
//! parts, changed, cut and put together wrongly are read or refused, in memory that their length and
//! the readers' own limits bound. THRONG_TEST_LONG tries two hundred times as many.

use bytes::{Bytes, BytesMut};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::{
    engine::{Item, Values, hits::Hits, protocol},
    pickle, python,
    sealed::Sealed,
};

/// Runs `check` on many of what `strategy` makes.
fn fuzz<S: Strategy>(cases: u32, strategy: S, check: impl Fn(S::Value)) {
    let times = if std::env::var_os("THRONG_TEST_LONG").is_some() { 200 } else { 1 };
    let config = Config { failure_persistence: None, ..Config::with_cases(cases * times) };
    let ran = TestRunner::new(config).run(&strategy, |value| {
        check(value);
        Ok(())
    });
    ran.unwrap();
}

/// Runs `read`, and holds it to so many bytes at a time.
fn within<T>(limit: usize, read: impl FnOnce() -> T) -> T {
    let mut done = None;
    let used = allocation_counter::measure(|| done = Some(read()));
    assert!(used.bytes_max <= limit as u64, "{} bytes, over {limit}", used.bytes_max);
    done.expect("it was run")
}

/// One opcode of plain data with its argument, whether or not it fits where it stands.
fn opcode() -> impl Strategy<Value = Vec<u8>> {
    let with = |opcode: u8, argument: BoxedStrategy<Vec<u8>>| {
        argument.prop_map(move |argument| [&[opcode][..], &argument].concat()).boxed()
    };
    let some = |len: usize| vec(any::<u8>(), len).boxed();
    let counted = |opcode: u8, width: usize| {
        let text = ("[a-zé]{0,12}", any::<u8>(), 0..8_u8);
        let text = text.prop_map(move |(text, lie, lies)| {
            let mut length = (text.len() as u64).to_le_bytes();
            if lies == 0 {
                length[width - 1] = lie;
            }
            [&[opcode][..], &length[..width], text.as_bytes()].concat()
        });
        text.boxed()
    };
    let line = |opcode: u8, text: &'static str| {
        let line = text.prop_map(move |text| format!("{}{text}\n", char::from(opcode)).into());
        line.boxed()
    };
    prop_oneof![
        12 => prop::sample::select(b"N\x88\x89]})(lt\x85\x86\x87aesud0.\x94".to_vec())
            .prop_map(|opcode| std::vec![opcode]),
        6 => prop_oneof![counted(b'X', 4), counted(0x8c, 1), counted(0x8d, 8), counted(b'C', 1),
            counted(b'B', 4), counted(0x8e, 8), counted(b'U', 1), counted(0x8a, 1), counted(0x8b, 4)],
        4 => prop_oneof![with(b'K', some(1)), with(b'M', some(2)), with(b'J', some(4)),
            with(b'G', some(8)), with(b'q', some(1)), with(b'h', some(1)), with(b'r', some(4)),
            with(b'j', some(4)), with(0x80, some(1)), with(0x95, some(8))],
        2 => prop_oneof![line(b'I', "-?[0-9]{0,20}"), line(b'L', "-?[0-9]{0,20}L?"),
            line(b'F', "[-0-9.einfa]{0,9}"), line(b'V', "[a-z\\\\uU0-9]{0,12}"),
            line(b'S', "'[a-z\\\\x0-9]{0,9}'"), line(b'p', "[0-9]{0,11}"), line(b'g', "[0-9]{0,11}")],
        1 => vec(any::<u8>(), 0..6),
    ]
}

/// What `unfold` may make of a few bytes: a million values, each with its place in a list.
const UNFOLDED: usize = 192 << 20;

#[test]
fn a_pickle_is_read_or_refused_in_bounded_memory() {
    let pickle = vec(opcode(), 0..60).prop_map(|opcodes| {
        let mut pickle = opcodes.concat();
        pickle.push(b'.');
        pickle
    });
    fuzz(2_000, pickle, |pickle| {
        let _ = within(UNFOLDED + 256 * pickle.len(), || pickle::load(&pickle));
    });
    // A length that nothing follows makes room for nothing.
    for opcode in [b'X', b'B', b'T', 0x8b] {
        let huge = [&[opcode][..], &u32::MAX.to_le_bytes(), b"abc"].concat();
        assert!(within(4_096, || pickle::load(&huge)).is_err());
    }
    for opcode in [0x8d, 0x8e, 0x96] {
        let huge = [&[opcode][..], &u64::MAX.to_le_bytes(), b"abc"].concat();
        assert!(within(4_096, || pickle::load(&huge)).is_err());
    }
}

#[test]
fn a_pickle_that_would_run_anything_is_refused_wherever_it_says_so() {
    // Names, calls, restores, and registers of what others have registered.
    let runs =
        prop::sample::select(b"cRiobPQ\x81\x82\x83\x84\x92\x93\x97\x98\x8f\x90\x91".to_vec());
    let plain = vec(
        prop::sample::select(std::vec![
            &b"N"[..],
            b"\x88",
            b"K\x07",
            b"X\x03\x00\x00\x00abc",
            b"]",
            b"}",
            b"(",
            b"C\x01x",
        ]),
        0..20,
    );
    fuzz(5_000, (plain, runs, vec(any::<u8>(), 0..30)), |(plain, runs, rest)| {
        let mut pickle = plain.concat();
        pickle.push(runs);
        pickle.extend(rest);
        pickle.push(b'.');
        assert_eq!(pickle::load(&pickle), Err(pickle::PickleError::NotData(runs)));
    });
}

#[test]
fn a_value_under_any_flags_is_read_or_refused_in_bounded_memory() {
    let bytes =
        prop_oneof![vec(any::<u8>(), 0..400), "-?[0-9.e]{0,40}".prop_map(String::into_bytes)];
    let kinds = prop::sample::select(std::vec![Values::Python, Values::Pickled]);
    fuzz(5_000, (bytes, 0..64_u32, kinds), |(bytes, flags, kind)| {
        let limit = UNFOLDED + 256 * bytes.len();
        let bytes = Bytes::from(bytes);
        let item = Item { bytes: bytes.clone(), flags };
        let _ = within(limit, || python::read(&item, kind));
        assert!(within(4_096 + 64 * bytes.len(), || Sealed::open(bytes)).is_none());
    });
}

#[test]
fn what_unpacks_without_end_is_refused_in_bounded_memory() {
    use std::io::Write;

    let mut bomb = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..80 {
        bomb.write_all(&[0; 1 << 20]).unwrap();
    }
    let item = Item { bytes: bomb.finish().unwrap().into(), flags: 8 };
    assert!(item.bytes.len() < 1 << 20, "it would fit into a server");
    assert!(
        within(256 << 20, || python::read(&item, Values::Python))
            .unwrap_err()
            .contains("unpacks to over")
    );
}

/// A reply of a server, or nearly one.
fn reply() -> impl Strategy<Value = Vec<u8>> {
    let value = (vec(any::<u8>(), 0..40), 0..40_usize, 0..8_u8).prop_map(|(value, lie, lies)| {
        let len = if lies == 0 { lie } else { value.len() };
        let head = format!("VA {len} f16 c7 t60 W\r\n").into_bytes();
        [&head[..], &value, b"\r\n"].concat()
    });
    let got = ("[!-~]{1,30}", vec(any::<u8>(), 0..40)).prop_map(|(key, value)| {
        let head = format!("VALUE {key} 16 {}\r\n", value.len()).into_bytes();
        [&head[..], &value, b"\r\n"].concat()
    });
    let line = "(HD|EN|NF|NS|EX|END|VERSION|ERROR|CLIENT_ERROR|VA|VALUE|STAT)( [a-zA-Z0-9-]{0,25}){0,4}\r\n";
    prop_oneof![
        4 => value,
        4 => got,
        4 => line.prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..30),
    ]
}

#[test]
fn replies_are_the_same_however_they_come_and_take_no_more_room_than_they_have() {
    let pieces = (vec(reply(), 0..12), vec(any::<prop::sample::Index>(), 0..6));
    fuzz(4_000, pieces, |(replies, cuts)| {
        let stream = replies.concat();
        let whole = within(65_536 + 16 * stream.len(), || read(&[&stream]));
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect();
        assert_eq!(read(&pieces), whole);
        let whole = within(65_536 + 16 * stream.len(), || read_hits(&[&stream]));
        assert_eq!(read_hits(&pieces), whole);
    });
    let huge = format!("VA {}\r\n", 1 << 30);
    within(65_536, || read(&[huge.as_bytes(), b"x"]));
}

/// What is read of a stream that comes in pieces, up to the first rubbish, and whether that came.
fn read(pieces: &[&[u8]]) -> (Vec<String>, bool) {
    let (mut buffer, mut replies) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match protocol::take(&mut buffer) {
                Ok(Some(reply)) => replies.push(format!("{reply:?}")),
                Ok(None) => break,
                Err(_) => return (replies, true),
            }
        }
    }
    (replies, false)
}

/// The same for what is read as the answer to a `get`.
fn read_hits(pieces: &[&[u8]]) -> Option<(Vec<Bytes>, Option<String>)> {
    let (mut buffer, mut hits) = (BytesMut::new(), Hits::default());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if hits.read_on(&mut buffer).ok()? {
            let refused = hits.refused().map(str::to_owned);
            return Some((hits.iter().map(|hit| hit.value()).collect(), refused));
        }
    }
    None
}
