//! Pickles that hold data: what Python's clients store when a value is not text, a number or bytes.
//!
//! The reader builds data and nothing else. An opcode that names, calls or restores anything is
//! refused, and so is what refers to itself, nests deep, or unfolds to much more than its bytes.
//! The writer writes protocol 3, which every Python 3 reads.

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
    let mut reader = Reader {
        rest: bytes,
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
    };
    let root = reader.run()?;
    let mut left = MAX_NODES;
    unfold(&reader.nodes, root, 0, &mut left)
}

/// Writes a pickle.
pub(crate) fn dump(data: &Data) -> Vec<u8> {
    let mut bytes = vec![0x80, 3];
    write(data, &mut bytes);
    bytes.push(b'.');
    bytes
}

/// A value under construction: others are named by their index, so that a list may be remembered
/// before it is filled.
enum Node {
    Leaf(Data),
    List(Vec<usize>),
    Tuple(Vec<usize>),
    Dict(Vec<(usize, usize)>),
}

struct Reader<'a> {
    rest: &'a [u8],
    nodes: Vec<Node>,
    stack: Vec<usize>,
    marks: Vec<usize>,
    memo: Vec<(u32, usize)>,
}

impl<'a> Reader<'a> {
    fn run(&mut self) -> Result<usize, PickleError> {
        loop {
            let opcode = self.byte()?;
            match opcode {
                b'.' => return self.pop(),
                0x80 => drop(self.byte()?),
                0x95 => drop(self.take(8)?),
                b'N' => self.leaf(Data::None),
                0x88 => self.leaf(Data::Bool(true)),
                0x89 => self.leaf(Data::Bool(false)),
                b'I' | b'L' => self.number_line()?,
                b'J' => {
                    let number = i32::from_le_bytes(self.array()?);
                    self.leaf(Data::Int(number.into()));
                }
                b'K' => {
                    let number = self.byte()?;
                    self.leaf(Data::Int(number.into()));
                }
                b'M' => {
                    let number = u16::from_le_bytes(self.array()?);
                    self.leaf(Data::Int(number.into()));
                }
                0x8a => {
                    let len = usize::from(self.byte()?);
                    self.long(len)?;
                }
                0x8b => {
                    let len = self.length4()?;
                    self.long(len)?;
                }
                b'F' => {
                    let number = self.line()?.parse().map_err(|_| PickleError::Broken)?;
                    self.leaf(Data::Float(number));
                }
                b'G' => {
                    let number = f64::from_be_bytes(self.array()?);
                    self.leaf(Data::Float(number));
                }
                b'V' => {
                    let text = raw_unicode(self.raw_line()?)?;
                    self.leaf(Data::Text(text));
                }
                b'S' => {
                    let bytes = quoted(self.raw_line()?)?;
                    self.leaf(Data::Bytes(bytes));
                }
                b'X' => self.text_of(Self::length4)?,
                0x8c => self.text_of(Self::length1)?,
                0x8d => self.text_of(Self::length8)?,
                // What Python 2 calls `str` is bytes.
                b'B' | b'T' => self.bytes_of(Self::length4)?,
                b'C' | b'U' => self.bytes_of(Self::length1)?,
                0x8e | 0x96 => self.bytes_of(Self::length8)?,
                b']' => self.node(Node::List(Vec::new())),
                b'}' => self.node(Node::Dict(Vec::new())),
                b')' => self.node(Node::Tuple(Vec::new())),
                b'(' => self.marks.push(self.stack.len()),
                b'l' => {
                    let items = self.marked()?;
                    self.node(Node::List(items));
                }
                b't' => {
                    let items = self.marked()?;
                    self.node(Node::Tuple(items));
                }
                b'd' => {
                    let pairs = pairs(&self.marked()?)?;
                    self.node(Node::Dict(pairs));
                }
                0x85..=0x87 => {
                    let count = usize::from(opcode - 0x84);
                    let at = self.stack.len().checked_sub(count).ok_or(PickleError::Broken)?;
                    let items = self.stack.split_off(at);
                    self.node(Node::Tuple(items));
                }
                b'a' => {
                    let item = self.pop()?;
                    self.list()?.push(item);
                }
                b'e' => {
                    let items = self.marked()?;
                    self.list()?.extend(items);
                }
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.dict()?.push((key, value));
                }
                b'u' => {
                    let pairs = pairs(&self.marked()?)?;
                    self.dict()?.extend(pairs);
                }
                b'0' => drop(self.pop()?),
                b'q' | b'h' => {
                    let name = u32::from(self.byte()?);
                    self.remember_or_recall(opcode == b'q', name)?;
                }
                b'r' | b'j' => {
                    let name = u32::from_le_bytes(self.array()?);
                    self.remember_or_recall(opcode == b'r', name)?;
                }
                b'p' | b'g' => {
                    let name = self.line()?.parse().map_err(|_| PickleError::Broken)?;
                    self.remember_or_recall(opcode == b'p', name)?;
                }
                0x94 => {
                    let name = u32::try_from(self.memo.len()).map_err(|_| PickleError::Broken)?;
                    self.remember_or_recall(true, name)?;
                }
                other => return Err(PickleError::NotData(other)),
            }
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], PickleError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(PickleError::Broken)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], PickleError> {
        self.take(LEN)?.try_into().map_err(|_| PickleError::Broken)
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        Ok(self.array::<1>()?[0])
    }

    fn length1(&mut self) -> Result<usize, PickleError> {
        Ok(self.byte()?.into())
    }

    fn length4(&mut self) -> Result<usize, PickleError> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| PickleError::Broken)
    }

    fn length8(&mut self) -> Result<usize, PickleError> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| PickleError::Broken)
    }

    fn raw_line(&mut self) -> Result<&'a [u8], PickleError> {
        let end = self.rest.iter().position(|b| *b == b'\n').ok_or(PickleError::Broken)?;
        Ok(&self.take(end + 1)?[..end])
    }

    fn line(&mut self) -> Result<&'a str, PickleError> {
        std::str::from_utf8(self.raw_line()?).map_err(|_| PickleError::Broken)
    }

    fn number_line(&mut self) -> Result<(), PickleError> {
        // Protocol 0 writes booleans as these two numbers.
        let data = match self.line()? {
            "00" => Data::Bool(false),
            "01" => Data::Bool(true),
            text => {
                let digits = text.strip_suffix('L').unwrap_or(text);
                Data::Int(digits.parse().map_err(|_| PickleError::Large)?)
            }
        };
        self.leaf(data);
        Ok(())
    }

    /// A little-endian two's complement number of any length.
    fn long(&mut self, len: usize) -> Result<(), PickleError> {
        let bytes = self.take(len)?;
        let fill = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
        let mut number = [fill; 8];
        let (low, high) = bytes.split_at(len.min(8));
        number[..low.len()].copy_from_slice(low);
        let number = i64::from_le_bytes(number);
        if high.iter().any(|byte| *byte != fill) || (number < 0) != (fill != 0) {
            return Err(PickleError::Large);
        }
        self.leaf(Data::Int(number));
        Ok(())
    }

    fn text_of(
        &mut self,
        length: impl Fn(&mut Self) -> Result<usize, PickleError>,
    ) -> Result<(), PickleError> {
        let len = length(self)?;
        let text = String::from_utf8(self.take(len)?.to_vec()).map_err(|_| PickleError::Broken)?;
        self.leaf(Data::Text(text));
        Ok(())
    }

    fn bytes_of(
        &mut self,
        length: impl Fn(&mut Self) -> Result<usize, PickleError>,
    ) -> Result<(), PickleError> {
        let len = length(self)?;
        let bytes = self.take(len)?.to_vec();
        self.leaf(Data::Bytes(bytes));
        Ok(())
    }

    fn leaf(&mut self, data: Data) {
        self.node(Node::Leaf(data));
    }

    fn node(&mut self, node: Node) {
        self.stack.push(self.nodes.len());
        self.nodes.push(node);
    }

    fn pop(&mut self) -> Result<usize, PickleError> {
        self.stack.pop().ok_or(PickleError::Broken)
    }

    fn marked(&mut self) -> Result<Vec<usize>, PickleError> {
        let mark = self.marks.pop().ok_or(PickleError::Broken)?;
        if mark > self.stack.len() {
            return Err(PickleError::Broken);
        }
        Ok(self.stack.split_off(mark))
    }

    fn list(&mut self) -> Result<&mut Vec<usize>, PickleError> {
        let top = self.stack.last().and_then(|top| self.nodes.get_mut(*top));
        match top {
            Some(Node::List(items)) => Ok(items),
            _ => Err(PickleError::Broken),
        }
    }

    fn dict(&mut self) -> Result<&mut Vec<(usize, usize)>, PickleError> {
        let top = self.stack.last().and_then(|top| self.nodes.get_mut(*top));
        match top {
            Some(Node::Dict(pairs)) => Ok(pairs),
            _ => Err(PickleError::Broken),
        }
    }

    fn remember_or_recall(&mut self, remembers: bool, name: u32) -> Result<(), PickleError> {
        if remembers {
            let top = *self.stack.last().ok_or(PickleError::Broken)?;
            self.memo.push((name, top));
            return Ok(());
        }
        let found = self.memo.iter().rev().find(|(known, _)| *known == name);
        self.stack.push(found.ok_or(PickleError::Broken)?.1);
        Ok(())
    }
}

/// Protocol 0's text: Latin-1 with `\\u0000` and `\\U00000000` for what that lacks.
fn raw_unicode(line: &[u8]) -> Result<String, PickleError> {
    let mut units: Vec<u16> = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((&first, after)) = rest.split_first() {
        let digits = match (first, after.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                units.push(first.into());
                rest = after;
                continue;
            }
        };
        let (code, after) = hex(&after[1..], digits)?;
        // Surrogates are joined below, so that halves written one by one make a whole.
        match u16::try_from(code) {
            Ok(unit) => units.push(unit),
            Err(_) => {
                let whole = char::from_u32(code).ok_or(PickleError::Broken)?;
                units.extend(whole.encode_utf16(&mut [0; 2]).iter());
            }
        }
        rest = after;
    }
    String::from_utf16(&units).map_err(|_| PickleError::Broken)
}

/// Protocol 0's bytes: in quotes, with Python's escapes.
fn quoted(line: &[u8]) -> Result<Vec<u8>, PickleError> {
    let [quote @ (b'\'' | b'"'), inside @ .., last] = line else {
        return Err(PickleError::Broken);
    };
    if quote != last {
        return Err(PickleError::Broken);
    }
    let mut bytes = Vec::with_capacity(inside.len());
    let mut rest = inside;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'\\' {
            bytes.push(first);
            continue;
        }
        let (&escape, after) = rest.split_first().ok_or(PickleError::Broken)?;
        rest = after;
        bytes.push(match escape {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'\\' | b'\'' | b'"' => escape,
            b'x' => {
                let (code, after) = hex(rest, 2)?;
                rest = after;
                u8::try_from(code).map_err(|_| PickleError::Broken)?
            }
            _ => return Err(PickleError::Broken),
        });
    }
    Ok(bytes)
}

fn hex(text: &[u8], digits: usize) -> Result<(u32, &[u8]), PickleError> {
    let (digits, rest) = text.split_at_checked(digits).ok_or(PickleError::Broken)?;
    let code = digits
        .iter()
        .try_fold(0_u32, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)?));
    Ok((code.ok_or(PickleError::Broken)?, rest))
}

fn pairs(items: &[usize]) -> Result<Vec<(usize, usize)>, PickleError> {
    let pairs = items.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return Err(PickleError::Broken);
    }
    Ok(pairs.map(|pair| (pair[0], pair[1])).collect())
}

fn unfold(nodes: &[Node], at: usize, depth: usize, left: &mut usize) -> Result<Data, PickleError> {
    if depth > MAX_DEPTH {
        return Err(PickleError::Deep);
    }
    let cost = match &nodes[at] {
        Node::Leaf(Data::Text(text)) => 1 + text.len() / 64,
        Node::Leaf(Data::Bytes(bytes)) => 1 + bytes.len() / 64,
        _ => 1,
    };
    *left = left.checked_sub(cost).ok_or(PickleError::Unfolds)?;
    let mut each = |at: &usize| unfold(nodes, *at, depth + 1, left);
    Ok(match &nodes[at] {
        Node::Leaf(data) => data.clone(),
        Node::List(items) => Data::List(items.iter().map(each).collect::<Result<_, _>>()?),
        Node::Tuple(items) => Data::Tuple(items.iter().map(each).collect::<Result<_, _>>()?),
        Node::Dict(pairs) => {
            let pair = |(key, value): &(usize, usize)| Ok((each(key)?, each(value)?));
            Data::Dict(pairs.iter().map(pair).collect::<Result<_, _>>()?)
        }
    })
}

fn write(data: &Data, bytes: &mut Vec<u8>) {
    match data {
        Data::None => bytes.push(b'N'),
        Data::Bool(true) => bytes.push(0x88),
        Data::Bool(false) => bytes.push(0x89),
        Data::Int(number) => match i32::try_from(*number) {
            Ok(number) => {
                bytes.push(b'J');
                bytes.extend(number.to_le_bytes());
            }
            Err(_) => {
                bytes.extend([0x8a, 8]);
                bytes.extend(number.to_le_bytes());
            }
        },
        Data::Float(number) => {
            bytes.push(b'G');
            bytes.extend(number.to_be_bytes());
        }
        Data::Text(text) => write_counted(b'X', text.as_bytes(), bytes),
        Data::Bytes(plain) => write_counted(b'B', plain, bytes),
        Data::List(items) => {
            bytes.extend(*b"](");
            items.iter().for_each(|item| write(item, bytes));
            bytes.push(b'e');
        }
        Data::Tuple(items) => {
            bytes.push(b'(');
            items.iter().for_each(|item| write(item, bytes));
            bytes.push(b't');
        }
        Data::Dict(pairs) => {
            bytes.extend(*b"}(");
            for (key, value) in pairs {
                write(key, bytes);
                write(value, bytes);
            }
            bytes.push(b'u');
        }
    }
}

fn write_counted(opcode: u8, plain: &[u8], bytes: &mut Vec<u8>) {
    bytes.push(opcode);
    // No engine takes items anywhere near four gigabytes.
    bytes.extend(u32::try_from(plain.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend(plain);
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
