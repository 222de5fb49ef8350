//! Commands of the site: `boxoffice import` and `boxoffice seed`.

pub mod import;
pub mod seed;

pub use import::Import;
pub use seed::Seed;
