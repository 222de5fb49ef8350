//! The facade through its public door: a small site in process, and real processes for what only
//! they can show.

mod assets;
mod cli;
mod config;
mod csrf;
mod errors;
mod pages;
mod process;
mod sessions;
mod site;
mod tasks;
