//! Commands of the site: `boxoffice import`, `boxoffice seed` and `boxoffice rehearse`.

pub mod import;
pub mod rehearse;
pub mod seed;

pub use import::Import;
pub use rehearse::Rehearse;
pub use seed::Seed;
