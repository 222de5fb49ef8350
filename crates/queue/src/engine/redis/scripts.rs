//! The scripts: each a file, all with one beginning. The server runs each in one step.

use ::redis::Script;

#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) push: Script,
    pub(super) claim: Script,
    pub(super) due: Script,
    pub(super) promote: Script,
    pub(super) hold_back: Script,
    pub(super) replace: Script,
    pub(super) extend: Script,
    pub(super) settle: Script,
    pub(super) progress: Script,
    pub(super) tend: Script,
    pub(super) turns: Script,
    pub(super) unpark: Script,
    pub(super) retry: Script,
    pub(super) bury: Script,
    pub(super) cancel: Script,
    pub(super) forget: Script,
    pub(super) purge: Script,
    pub(super) lead: Script,
    pub(super) fire: Script,
    pub(super) join: Script,
    pub(super) close: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        let script =
            |text: &str| Script::new(&format!("{}{text}", include_str!("scripts/start.lua")));
        Self {
            push: script(include_str!("scripts/push.lua")),
            claim: script(include_str!("scripts/claim.lua")),
            due: script(include_str!("scripts/due.lua")),
            promote: script(include_str!("scripts/promote.lua")),
            hold_back: script(include_str!("scripts/hold_back.lua")),
            replace: script(include_str!("scripts/replace.lua")),
            extend: script(include_str!("scripts/extend.lua")),
            settle: script(include_str!("scripts/settle.lua")),
            progress: script(include_str!("scripts/progress.lua")),
            tend: script(include_str!("scripts/tend.lua")),
            turns: script(include_str!("scripts/turns.lua")),
            unpark: script(include_str!("scripts/unpark.lua")),
            retry: script(include_str!("scripts/retry.lua")),
            bury: script(include_str!("scripts/bury.lua")),
            cancel: script(include_str!("scripts/cancel.lua")),
            forget: script(include_str!("scripts/forget.lua")),
            purge: script(include_str!("scripts/purge.lua")),
            lead: script(include_str!("scripts/lead.lua")),
            fire: script(include_str!("scripts/fire.lua")),
            join: script(include_str!("scripts/join.lua")),
            close: script(include_str!("scripts/close.lua")),
        }
    }
}
