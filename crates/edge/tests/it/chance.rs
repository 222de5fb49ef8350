//! Bytes by chance: what the tests of smuggling draw their odd requests and answers with.

/// Draws; the same from the same start.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below
    }

    pub(crate) fn one<'a>(&mut self, of: &[&'a [u8]]) -> &'a [u8] {
        of[self.next(of.len())]
    }

    /// Adds the lines of a head and its end. One in thirty ends in a bare line feed.
    pub(crate) fn write_head(&mut self, bytes: &mut Vec<u8>, lines: &[&[u8]]) {
        for line in lines {
            bytes.extend_from_slice(line);
            bytes.extend_from_slice(if self.next(30) == 0 { b"\n" } else { b"\r\n" });
        }
        bytes.extend_from_slice(b"\r\n");
    }

    /// Takes away, adds, changes or doubles up to three bytes.
    pub(crate) fn disturb(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.next(3) {
            let at = self.next(bytes.len());
            match self.next(4) {
                0 => drop(bytes.remove(at)),
                1 => bytes.insert(at, ODD[self.next(ODD.len())]),
                2 => bytes[at] = ODD[self.next(ODD.len())],
                _ => bytes.insert(at, bytes[at]),
            }
            if bytes.is_empty() {
                return;
            }
        }
    }
}

const ODD: &[u8] = b"\r\n\0\t :,;x0\x0b\x7f";
