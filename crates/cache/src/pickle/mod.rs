//! Pickles that hold data: what Python's clients store when a value is not text, a number or bytes.
//!
//! The reader builds data and nothing else. An opcode that names, calls or restores anything is
//! refused, and so is what refers to itself, nests deep, or unfolds to much more than its bytes.
//! The writer writes protocol 3, which every Python 3 reads.

mod graph;
mod input;
mod read;
mod write;

/// What a pickle of plain data holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Data>),
    Tuple(Vec<Data>),
    Dict(Vec<(Data, Data)>),
}

/// Why a pickle is not read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PickleError {
    #[error("the pickle is cut short or is none")]
    Broken,
    #[error("the pickle does more than hold data: opcode 0x{0:02x}")]
    NotData(u8),
    #[error("the pickle holds a number over 64 bits")]
    Large,
    #[error("the pickle refers to itself or nests over {MAX_DEPTH} levels")]
    Deep,
    #[error("the pickle unfolds to over {MAX_NODES} values")]
    Unfolds,
}

/// Reads a pickle of any protocol.
pub(crate) fn load(bytes: &[u8]) -> Result<Data, PickleError> {
    read::Reader::new(bytes).read()
}

/// Writes a pickle.
pub(crate) fn dump(data: &Data) -> Vec<u8> {
    write::write(data)
}

const MAX_DEPTH: usize = 100;
/// Values that a pickle may unfold to, 64 bytes of text counted as one more.
const MAX_NODES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unhex(hex: &str) -> Vec<u8> {
        let pair = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(pair).collect()
    }

    #[test]
    fn pickles_of_real_python_are_read() {
        let text = |text: &str| Data::Text(text.to_owned());
        for (hex, data) in [
            ("80054e2e", Data::None),
            ("8005882e", Data::Bool(true)),
            ("8005950a00000000000000473ff80000000000002e", Data::Float(1.5)),
            (
                "8005950b000000000000005d94284b018c016194652e",
                Data::List(vec![Data::Int(1), text("a")]),
            ),
            (
                "8005950a000000000000007d948c0161944b01732e",
                Data::Dict(vec![(text("a"), Data::Int(1))]),
            ),
            (
                "80059514000000000000008c0468746d6c944741d954fc402000008987942e",
                Data::Tuple(vec![text("html"), Data::Float(1_700_000_000.5), Data::Bool(false)]),
            ),
        ] {
            assert_eq!(load(&unhex(hex)).unwrap(), data);
        }
    }

    #[test]
    fn pickles_of_protocol_0_are_read() {
        // {"n": "Zo\u00eb \U0001d11e \\", "l": [1, 2.5, True, None, 2**40]}, and Python 2's "a'\xff".
        let pickle = b"(dp0\nVn\np1\nVZo\xeb \\U0001d11e \\u005c\np2\nsVl\np3\n(lp4\nI1\naF2.5\naI01\naNaL1099511627776L\nas.";
        let text = |text: &str| Data::Text(text.to_owned());
        let list =
            vec![Data::Int(1), Data::Float(2.5), Data::Bool(true), Data::None, Data::Int(1 << 40)];
        let dict = vec![(text("n"), text("Zoë 𝄞 \\")), (text("l"), Data::List(list))];
        assert_eq!(load(pickle).unwrap(), Data::Dict(dict));
        assert_eq!(load(b"S\"a'\\xff\"\n.").unwrap(), Data::Bytes(vec![b'a', b'\'', 0xff]));
    }

    #[test]
    fn what_would_run_code_is_refused() {
        // os.system("…") by GLOBAL and REDUCE, and by STACK_GLOBAL.
        assert_eq!(load(b"cos\nsystem\n(S'id'\ntR."), Err(PickleError::NotData(b'c')));
        let stacked = b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.";
        assert_eq!(load(stacked), Err(PickleError::NotData(0x93)));
    }

    #[test]
    fn what_unfolds_without_end_is_refused() {
        // A list that holds itself, and fifty lists that each hold the one before twice.
        assert_eq!(load(b"]q\x00h\x00a."), Err(PickleError::Deep));
        let mut laughs = b"]q\x00".to_vec();
        for level in 0..50 {
            laughs.extend([b']', b'h', level, b'a', b'h', level, b'a', b'q', level + 1]);
        }
        laughs.push(b'.');
        assert_eq!(load(&laughs), Err(PickleError::Unfolds));
        let huge = [&b"X"[..], &u32::MAX.to_le_bytes()].concat();
        assert_eq!(load(&huge), Err(PickleError::Broken));
        assert_eq!(
            load(&unhex("8a09000000000000008000 2e".replace(' ', "").as_str())),
            Err(PickleError::Large)
        );
    }

    #[test]
    fn a_list_remembered_before_it_is_filled_is_whole_in_both_places() {
        // x = [1]; (x, x)
        let shared = b"\x80\x02]q\x00K\x01ah\x00\x86.";
        let one = || Data::List(vec![Data::Int(1)]);
        assert_eq!(load(shared).unwrap(), Data::Tuple(vec![one(), one()]));
    }

    fn any_data() -> impl Strategy<Value = Data> {
        let leaf = prop_oneof![
            Just(Data::None),
            any::<bool>().prop_map(Data::Bool),
            any::<i64>().prop_map(Data::Int),
            any::<f64>().prop_map(Data::Float),
            any::<String>().prop_map(Data::Text),
            any::<Vec<u8>>().prop_map(Data::Bytes),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            let list = || prop::collection::vec(inner.clone(), 0..6);
            let pair = (any::<String>().prop_map(Data::Text), inner.clone());
            prop_oneof![
                list().prop_map(Data::List),
                list().prop_map(Data::Tuple),
                prop::collection::vec(pair, 0..6).prop_map(Data::Dict),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(data in any_data()) {
            prop_assert_eq!(load(&dump(&data)).unwrap(), data);
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_panic(bytes: Vec<u8>, data in any_data(), at: prop::sample::Index, by: u8) {
            let _ = load(&bytes);
            let mut changed = dump(&data);
            let at = at.index(changed.len());
            changed[at] ^= by;
            let _ = load(&changed);
        }
    }
}
