//! Boxoffice's binary.

fn main() {}
