//! Reading: each opcode of plain data, of every protocol, and no other.

use super::{
    Data, PickleError,
    graph::{Graph, Node},
    input::{Input, quoted, raw_unicode},
};

pub(super) struct Reader<'a> {
    input: Input<'a>,
    graph: Graph,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { input: Input(bytes), graph: Graph::default() }
    }

    pub(super) fn read(mut self) -> Result<Data, PickleError> {
        loop {
            match self.input.byte()? {
                b'.' => {
                    let root = self.graph.pop()?;
                    return self.graph.unfold(root);
                }
                0x80 => drop(self.input.byte()?),
                0x95 => drop(self.input.take(8)?),
                opcode => {
                    let is_read = self.scalar(opcode)? || self.collection(opcode)?;
                    if !is_read && !self.name(opcode)? {
                        return Err(PickleError::NotData(opcode));
                    }
                }
            }
        }
    }

    /// Values that hold no others.
    fn scalar(&mut self, opcode: u8) -> Result<bool, PickleError> {
        let input = &mut self.input;
        let data = match opcode {
            b'N' => Data::None,
            0x88 => Data::Bool(true),
            0x89 => Data::Bool(false),
            b'I' | b'L' => number_line(input)?,
            b'J' => Data::Int(i32::from_le_bytes(input.array()?).into()),
            b'K' => Data::Int(input.byte()?.into()),
            b'M' => Data::Int(u16::from_le_bytes(input.array()?).into()),
            0x8a => {
                let len = input.length1()?;
                Data::Int(input.long(len)?)
            }
            0x8b => {
                let len = input.length4()?;
                Data::Int(input.long(len)?)
            }
            b'F' => Data::Float(input.number()?),
            b'G' => Data::Float(f64::from_be_bytes(input.array()?)),
            b'V' => Data::Text(raw_unicode(input.raw_line()?)?),
            b'S' => Data::Bytes(quoted(input.raw_line()?)?),
            b'X' | 0x8c | 0x8d => {
                let len = match opcode {
                    b'X' => input.length4()?,
                    0x8c => input.length1()?,
                    _ => input.length8()?,
                };
                Data::Text(input.text(len)?)
            }
            // What Python 2 calls `str` is bytes.
            b'B' | b'T' | b'C' | b'U' | 0x8e | 0x96 => {
                let len = match opcode {
                    b'B' | b'T' => input.length4()?,
                    b'C' | b'U' => input.length1()?,
                    _ => input.length8()?,
                };
                Data::Bytes(input.take(len)?.to_vec())
            }
            _ => return Ok(false),
        };
        self.graph.leaf(data);
        Ok(true)
    }

    /// Lists, tuples and dicts, and what fills them.
    fn collection(&mut self, opcode: u8) -> Result<bool, PickleError> {
        let graph = &mut self.graph;
        match opcode {
            b']' => graph.node(Node::List(Vec::new())),
            b'}' => graph.node(Node::Dict(Vec::new())),
            b')' => graph.node(Node::Tuple(Vec::new())),
            b'(' => graph.mark(),
            b'l' => {
                let items = graph.marked()?;
                graph.node(Node::List(items));
            }
            b't' => {
                let items = graph.marked()?;
                graph.node(Node::Tuple(items));
            }
            b'd' => {
                let pairs = graph.marked_pairs()?;
                graph.node(Node::Dict(pairs));
            }
            0x85..=0x87 => {
                let items = graph.last(usize::from(opcode - 0x84))?;
                graph.node(Node::Tuple(items));
            }
            b'a' => {
                let item = graph.pop()?;
                graph.list()?.push(item);
            }
            b'e' => {
                let items = graph.marked()?;
                graph.list()?.extend(items);
            }
            b's' => {
                let value = graph.pop()?;
                let key = graph.pop()?;
                graph.dict()?.push((key, value));
            }
            b'u' => {
                let pairs = graph.marked_pairs()?;
                graph.dict()?.extend(pairs);
            }
            b'0' => drop(graph.pop()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Names for values, so that one is written once.
    fn name(&mut self, opcode: u8) -> Result<bool, PickleError> {
        let name = match opcode {
            b'q' | b'h' => u32::from(self.input.byte()?),
            b'r' | b'j' => u32::from_le_bytes(self.input.array()?),
            b'p' | b'g' => self.input.number()?,
            0x94 => {
                self.graph.memoize()?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        if matches!(opcode, b'q' | b'r' | b'p') {
            self.graph.remember(name)?;
        } else {
            self.graph.recall(name)?;
        }
        Ok(true)
    }
}

fn number_line(input: &mut Input<'_>) -> Result<Data, PickleError> {
    // Protocol 0 writes booleans as these two numbers.
    Ok(match input.line()? {
        "00" => Data::Bool(false),
        "01" => Data::Bool(true),
        text => {
            let digits = text.strip_suffix('L').unwrap_or(text);
            Data::Int(digits.parse().map_err(|_| PickleError::Large)?)
        }
    })
}
