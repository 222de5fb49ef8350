//! Stands in for the crate `sea_orm` in its own tests: the same, except that a connection is ours.
#![allow(ambiguous_glob_reexports, reason = "what is named below wins over what the globs bring")]

mod connection;

pub use real_sea_orm::*;

pub use crate::connection::{Database, DatabaseConnection};

/// The same, short.
pub type DbConn = DatabaseConnection;
/// Our transaction under the name that the tests know.
pub type DatabaseTransaction = throng_db::Tx;

pub mod entity {
    //! As in SeaORM.
    pub use real_sea_orm::entity::*;

    pub mod prelude {
        //! As in SeaORM.
        pub use real_sea_orm::entity::prelude::*;
        // `commit` and `rollback`, which are methods of SeaORM's own type.
        pub use real_sea_orm::TransactionSession;

        pub use crate::{DatabaseConnection, DbConn};
    }
}

pub mod prelude {
    //! As in SeaORM.
    pub use crate::entity::prelude::*;
}
