//! Writing: protocol 3.

use super::Data;

pub(super) fn write(data: &Data) -> Vec<u8> {
    let mut bytes = vec![0x80, 3];
    write_value(data, &mut bytes);
    bytes.push(b'.');
    bytes
}

fn write_value(data: &Data, bytes: &mut Vec<u8>) {
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
            items.iter().for_each(|item| write_value(item, bytes));
            bytes.push(b'e');
        }
        Data::Tuple(items) => {
            bytes.push(b'(');
            items.iter().for_each(|item| write_value(item, bytes));
            bytes.push(b't');
        }
        Data::Dict(pairs) => {
            bytes.extend(*b"}(");
            for (key, value) in pairs {
                write_value(key, bytes);
                write_value(value, bytes);
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
