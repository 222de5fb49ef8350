//! MD5 of several short keys side by side: what one has to wait for, the processor does for all.
//!
//! It is the same function as in `hash.rs`, written so that each step is one operation on a row of
//! numbers, of which the processor does several at a time.

/// How many keys go side by side.
pub(crate) const LANES: usize = 8;

type Row = [u32; LANES];

/// The first word of the MD5 of each key; `None` where there are too many keys or one is too long to
/// be a single block.
pub(crate) fn md5_words(keys: &[&[u8]]) -> Option<Row> {
    if keys.len() > LANES || keys.iter().any(|key| key.len() > MAX_BYTES) {
        return None;
    }
    let mut words = [[0; LANES]; 16];
    for (lane, key) in keys.iter().enumerate() {
        let mut block = [0_u8; 64];
        block[..key.len()].copy_from_slice(key);
        block[key.len()] = 0x80;
        block[56..].copy_from_slice(&(8 * key.len() as u64).to_le_bytes());
        for (word, bytes) in words.iter_mut().zip(block.chunks_exact(4)) {
            word[lane] = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
    }
    let mut state = START.map(|word| [word; LANES]);
    round::<7, 12, 17, 22>(&mut state, &words, 0, |step| step, |b, c, d| (b & c) | (!b & d));
    round::<5, 9, 14, 20>(&mut state, &words, 1, |step| 5 * step + 1, |b, c, d| (d & b) | (!d & c));
    round::<4, 11, 16, 23>(&mut state, &words, 2, |step| 3 * step + 5, |b, c, d| b ^ c ^ d);
    round::<6, 10, 15, 21>(&mut state, &words, 3, |step| 7 * step, |b, c, d| c ^ (b | !d));
    Some(state[0].map(|word| word.wrapping_add(START[0])))
}

/// Sixteen steps, of which every fourth turns by the same number of bits.
#[inline(always)]
fn round<const A: u32, const B: u32, const C: u32, const D: u32>(
    [a, b, c, d]: &mut [Row; 4],
    words: &[Row; 16],
    round: usize,
    word: impl Fn(usize) -> usize,
    mix: impl Fn(u32, u32, u32) -> u32,
) {
    let add = |step: usize| (SINES[16 * round + step], &words[word(step) % 16]);
    for step in [0, 4, 8, 12] {
        turn::<A>(a, b, c, d, add(step), &mix);
        turn::<B>(d, a, b, c, add(step + 1), &mix);
        turn::<C>(c, d, a, b, add(step + 2), &mix);
        turn::<D>(b, c, d, a, add(step + 3), &mix);
    }
}

/// One step. It knows its number of bits when it is compiled, so that it can be done for all lanes
/// at once.
#[inline(always)]
fn turn<const BITS: u32>(
    a: &mut Row,
    b: &Row,
    c: &Row,
    d: &Row,
    (constant, word): (u32, &Row),
    mix: impl Fn(u32, u32, u32) -> u32,
) {
    for lane in 0..LANES {
        let sum = a[lane].wrapping_add(mix(b[lane], c[lane], d[lane]));
        let sum = sum.wrapping_add(constant).wrapping_add(word[lane]);
        a[lane] = b[lane].wrapping_add(sum.rotate_left(BITS));
    }
}

/// What fits into a block beside the mark and the length.
const MAX_BYTES: usize = 55;
const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
/// The sines of 1 to 64, as fractions of 2^32.
#[rustfmt::skip]
const SINES: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a,
    0xa830_4613, 0xfd46_9501, 0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be,
    0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821, 0xf61e_2562, 0xc040_b340,
    0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8,
    0x676f_02d9, 0x8d2a_4c8a, 0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c,
    0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70, 0x289b_7ec6, 0xeaa1_27fa,
    0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92,
    0xffef_f47d, 0x8584_5dd1, 0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1,
    0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];
