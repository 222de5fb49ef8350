//! The tables: tasks, paused queues, schedules, the lease of the scheduler, limits of rates, and
//! chords with those of their parts that have ended.

#[cfg(feature = "rabbitmq")]
use sea_orm::sea_query::{Expr, ExprTrait, SimpleExpr};
use sea_orm::{
    DbBackend,
    sea_query::{ColumnDef, Index, Table},
};
use throng_db::{Migration, Schema};

use crate::State;

/// The queue's tables.
pub const MIGRATIONS: &[Migration] = &[
    Migration::new("queue_0001_tasks", tables),
    Migration::new("queue_0002_ran", ran),
    Migration::new("queue_0003_rate", rate),
    Migration::new("queue_0004_notify", notify),
    Migration::new("queue_0005_chord", chord),
];

pub(super) const TASK: &str = "throng_task";
/// Rises with every push: the order of tasks of one rank.
pub(super) const SEQ: &str = "seq";
pub(super) const ID: &str = "id";
pub(super) const QUEUE: &str = "queue";
pub(super) const NAME: &str = "name";
pub(super) const STATE: &str = "state";
/// 9 minus the priority, so that one ascending index gives the order.
pub(super) const RANK: &str = "priority_rank";
/// The envelope as pushed.
pub(super) const MESSAGE: &str = "message";
pub(super) const UNIQUE_KEY: &str = "unique_key";
pub(super) const AT_MOST_ONCE: &str = "at_most_once";
pub(super) const RETRIES: &str = "retries";
pub(super) const CRASHES: &str = "crashes";
/// When the row's state must change if nothing else happens: a waiting task is due, a queued one
/// expires, a running one's lease ends, a finished one is forgotten.
pub(super) const TURN_MS: &str = "turn_ms";
pub(super) const EXPIRES_MS: &str = "expires_ms";
pub(super) const PUSHED_MS: &str = "pushed_ms";
pub(super) const STARTED_MS: &str = "started_ms";
pub(super) const FINISHED_MS: &str = "finished_ms";
pub(super) const WORKER: &str = "worker";
/// The claim that holds the task; ends that name another are not recorded.
pub(super) const TOKEN: &str = "token";
pub(super) const REASON: &str = "reason";
pub(super) const RESULT: &str = "result";

pub(super) const PAUSE: &str = "throng_queue_pause";
pub(super) const SCHEDULE: &str = "throng_queue_schedule";
pub(super) const LAST_MS: &str = "last_ms";
pub(super) const LEASE: &str = "throng_queue_lease";
pub(super) const HOLDER: &str = "holder";
pub(super) const UNTIL_MS: &str = "until_ms";

/// Tasks without a row that have run, and that a broker may hand out again.
pub(super) const RAN: &str = "throng_queue_ran";
pub(super) const FORGET_MS: &str = "forget_ms";

/// Limits that all workers share, as far as they are in use.
pub(super) const RATE: &str = "throng_queue_rate";
pub(super) const NEXT_US: &str = "next_us";
pub(super) const LINE_US: &str = "line_us";

/// Chords by their groups.
pub(super) const CHORD: &str = "throng_queue_chord";
/// How many parts it has, and how many of them have ended.
pub(super) const PARTS: &str = "parts";
pub(super) const ENDED: &str = "ended";
/// Parts of chords that have ended.
pub(super) const PART: &str = "throng_queue_part";
pub(super) const CHORD_ID: &str = "chord";
pub(super) const PLACE: &str = "place";

/// A queued task that two workers did not survive: handed out one at a time.
pub(super) const SUSPECT: i32 = 8;
/// A queued task that a broker holds as well, from which a worker will get it.
pub(super) const AFLOAT: i32 = 9;

/// The number that stands for a state in the table. Numbers are for good.
pub(super) fn code(state: State) -> i32 {
    match state {
        State::Queued => 0,
        State::Waiting => 1,
        State::Running => 2,
        State::Done => 3,
        State::Dead => 4,
        State::Parked => 5,
        State::Cancelled => 6,
        State::Expired => 7,
    }
}

pub(super) fn state(code: i32) -> State {
    if code == SUSPECT || code == AFLOAT {
        return State::Queued;
    }
    State::ALL.into_iter().find(|state| self::code(*state) == code).unwrap_or(State::Parked)
}

/// Rows that wait to hear whether their node has them: on their way once, and with no worker yet.
#[cfg(feature = "rabbitmq")]
pub(super) fn doubtful() -> SimpleExpr {
    let waits = Expr::col(STATE).eq(code(State::Waiting));
    waits.and(Expr::col(STARTED_MS).is_not_null()).and(Expr::col(WORKER).is_null())
}

fn ran(schema: &mut Schema) {
    let mut table = Table::create();
    if schema.backend() == DbBackend::MySql {
        table.character_set("utf8mb4").collate("utf8mb4_bin");
    }
    schema.table(
        table
            .table(RAN)
            .col(ColumnDef::new(ID).string_len(191).not_null().primary_key())
            .col(ColumnDef::new(FORGET_MS).big_integer().not_null())
            .take(),
    );
}

fn rate(schema: &mut Schema) {
    let mut table = Table::create();
    if schema.backend() == DbBackend::MySql {
        table.character_set("utf8mb4").collate("utf8mb4_bin");
    }
    schema.table(
        table
            .table(RATE)
            .col(ColumnDef::new(NAME).string_len(191).not_null().primary_key())
            .col(ColumnDef::new(NEXT_US).big_integer().not_null())
            .col(ColumnDef::new(LINE_US).big_integer().not_null())
            .col(ColumnDef::new(FORGET_MS).big_integer().not_null())
            .take(),
    );
    schema
        .index(Index::create().name("throng_queue_rate_forget").table(RATE).col(FORGET_MS).take());
}

fn chord(schema: &mut Schema) {
    let is_mysql = schema.backend() == DbBackend::MySql;
    let table = |name: &'static str| {
        let mut table = Table::create();
        if is_mysql {
            table.character_set("utf8mb4").collate("utf8mb4_bin");
        }
        table.table(name).take()
    };
    let text = |name: &'static str| ColumnDef::new(name).string_len(191).take();
    let number = |name: &'static str| ColumnDef::new(name).big_integer().not_null().take();
    let mut result = ColumnDef::new(RESULT);
    // MySQL's TEXT ends at 64 kB.
    let result = if is_mysql { result.custom("longtext") } else { result.text() };
    schema.table(
        table(CHORD)
            .col(text(ID).not_null().primary_key())
            .col(number(PARTS))
            .col(number(ENDED))
            .col(text(HOLDER))
            .col(number(UNTIL_MS))
            .col(number(FORGET_MS))
            .take(),
    );
    let forget = Index::create().name("throng_queue_chord_forget").table(CHORD).take();
    schema.index(forget.clone().col(FORGET_MS).take());
    schema.table(
        table(PART)
            .col(text(CHORD_ID).not_null())
            .col(text(ID).not_null())
            .col(number(PLACE))
            .col(result.not_null().take())
            .primary_key(Index::create().col(CHORD_ID).col(ID))
            .take(),
    );
}

/// PostgreSQL tells whoever listens about every push, in the transaction of the push: also of those
/// that another language makes. Once for each queue, however many rows there are.
fn notify(schema: &mut Schema) {
    schema.sql(
        DbBackend::Postgres,
        format!(
            "CREATE OR REPLACE FUNCTION {TASK}_pushed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             PERFORM pg_notify('{TASK}', queue) \
             FROM (SELECT DISTINCT queue FROM pushed WHERE state = {}) AS ready; \
             RETURN NULL; END $$",
            code(State::Queued)
        ),
    );
    schema.sql(
        DbBackend::Postgres,
        format!(
            "CREATE TRIGGER {TASK}_pushed AFTER INSERT ON {TASK} \
             REFERENCING NEW TABLE AS pushed FOR EACH STATEMENT \
             EXECUTE FUNCTION {TASK}_pushed()"
        ),
    );
}

fn tables(schema: &mut Schema) {
    let text = |name: &'static str| ColumnDef::new(name).string_len(191).take();
    let number = |name: &'static str| ColumnDef::new(name).big_integer().take();
    let small = |name: &'static str| ColumnDef::new(name).integer().not_null().take();
    let is_mysql = schema.backend() == DbBackend::MySql;
    // MySQL's TEXT ends at 64 kB.
    let long = |name: &'static str| {
        let mut column = ColumnDef::new(name);
        if is_mysql { column.custom("longtext").take() } else { column.text().take() }
    };
    // And its text is compared without regard to case, unless it is told otherwise.
    let table = || {
        let mut table = Table::create();
        if is_mysql {
            table.character_set("utf8mb4").collate("utf8mb4_bin");
        }
        table
    };
    schema.table(
        table()
            .table(TASK)
            .col(number(SEQ).not_null().auto_increment().primary_key())
            .col(text(ID).not_null())
            .col(text(QUEUE).not_null())
            .col(text(NAME).not_null())
            .col(small(STATE))
            .col(small(RANK))
            .col(long(MESSAGE).not_null())
            .col(text(UNIQUE_KEY))
            .col(small(AT_MOST_ONCE).default(0))
            .col(small(RETRIES).default(0))
            .col(small(CRASHES).default(0))
            .col(number(TURN_MS))
            .col(number(EXPIRES_MS))
            .col(number(PUSHED_MS).not_null())
            .col(number(STARTED_MS))
            .col(number(FINISHED_MS))
            .col(text(WORKER))
            .col(text(TOKEN))
            .col(long(REASON))
            .col(long(RESULT))
            .take(),
    );
    let index = |name: &'static str| Index::create().name(name).table(TASK).take();
    schema.index(index("throng_task_id").col(ID).unique().take());
    schema.index(index("throng_task_unique").col(UNIQUE_KEY).unique().take());
    let ready = index("throng_task_ready").col(STATE).col(QUEUE).col(RANK).col(SEQ).take();
    schema.index(ready);
    schema.index(index("throng_task_turn").col(STATE).col(TURN_MS).take());
    schema.table(table().table(PAUSE).col(text(QUEUE).not_null().primary_key()).take());
    schema.table(
        table()
            .table(SCHEDULE)
            .col(text(NAME).not_null().primary_key())
            .col(number(LAST_MS).not_null())
            .take(),
    );
    schema.table(
        table()
            .table(LEASE)
            .col(text(NAME).not_null().primary_key())
            .col(text(HOLDER).not_null())
            .col(number(UNTIL_MS).not_null())
            .take(),
    );
}
