//! Dice that fall the same way on every machine (SplitMix64).

/// A run of numbers that its start decides.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// The dice of one row: rows do not depend on how many others were made before.
    pub(super) fn new(seed: u32, kind: u64, number: u32) -> Self {
        let mut dice = Self(u64::from(seed) << 32 ^ kind << 56 ^ u64::from(number));
        dice.next();
        dice
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ bits >> 31
    }

    /// From 0 up to, and without, `end`; 0 when that is empty.
    pub(super) fn below(&mut self, end: u32) -> u32 {
        let wide = u64::from(u32::try_from(self.next() >> 32).unwrap_or_default());
        u32::try_from((wide * u64::from(end)) >> 32).unwrap_or_default()
    }

    /// As [`Dice::below`], with small numbers far more likely: a few are popular, most are not.
    pub(super) fn popular(&mut self, end: u32) -> u32 {
        let (one, two) = (self.below(end), self.below(end));
        let product = u64::from(one) * u64::from(two) / u64::from(end.max(1));
        u32::try_from(product).unwrap_or_default()
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(u32::try_from(from.len()).unwrap_or(u32::MAX)) as usize]
    }
}
