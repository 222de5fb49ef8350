//! What developers and CI run: `cargo xtask test`, `check`, `engines` and `bench`.

fn main() {}
