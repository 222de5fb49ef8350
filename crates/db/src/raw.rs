//! Raw connections of the driver, for those who write SQL with sqlx.

use std::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use sea_orm::DbErr;
use sqlx::SqliteConnection;

use crate::{
    Db, Reader,
    engine::{self, Conn},
    error::refused,
    lease::Lease,
    session::Writing,
};

/// A connection on loan, as the driver's own type: `sqlx::query(…).execute(&mut *conn)`.
///
/// What is left open on it is rolled back when it is dropped. On a [`Reader`] the server refuses
/// writes. Behind a pooler in transaction mode, everything must run in a transaction of it, and only
/// replicas refuse writes.
pub struct Raw<D: Driver> {
    lease: Lease,
    _writing: Option<Writing>,
    driver: PhantomData<fn() -> D>,
}

/// The drivers: `sqlx::Sqlite`.
pub trait Driver: sqlx::Database + sealed::Driver {}

impl Db {
    /// Lends a raw connection to the primary.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let db = throng_db::Db::sqlite(folder.path().join("site.db")).await?;
    /// let mut conn = db.raw::<sqlx::Sqlite>().await?;
    /// let two: i64 = sqlx::query_scalar("SELECT 1 + 1").fetch_one(&mut *conn).await?;
    /// assert_eq!(two, 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the database is of another engine, or no connection is free in time.
    pub async fn raw<D: Driver>(&self) -> Result<Raw<D>, DbErr> {
        let (lease, writing) = self.lease_primary().await?;
        Raw::lend(lease, writing)
    }
}

impl Reader {
    /// Lends a raw connection that can only read.
    ///
    /// # Errors
    /// When the database is of another engine, or no connection is free in time.
    pub async fn raw<D: Driver>(&self) -> Result<Raw<D>, DbErr> {
        let mut lease = self.lease().await?;
        lease.refuse_writes().await?;
        Raw::lend(lease, None)
    }
}

impl<D: Driver> Raw<D> {
    fn lend(mut lease: Lease, writing: Option<Writing>) -> Result<Self, DbErr> {
        if D::of(lease.conn()).is_none() {
            return Err(refused(format!("the database is not of the engine {}", D::NAME)));
        }
        // Nobody can tell what will be done with it, so it is tidied when it comes back.
        lease.conn().is_busy = true;
        Ok(Self { lease, _writing: writing, driver: PhantomData })
    }
}

impl<D: Driver> Deref for Raw<D> {
    type Target = D::Connection;

    fn deref(&self) -> &Self::Target {
        D::of_ref(self.lease.conn_ref()).expect("checked when it was lent")
    }
}

impl<D: Driver> DerefMut for Raw<D> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        D::of(self.lease.conn()).expect("checked when it was lent")
    }
}

impl<D: Driver> fmt::Debug for Raw<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raw<{}>({:?})", D::NAME, self.lease)
    }
}

impl Driver for sqlx::Sqlite {}

#[expect(private_interfaces, reason = "the trait is sealed; nobody outside can call it")]
impl sealed::Driver for sqlx::Sqlite {
    fn of(conn: &mut Conn) -> Option<&mut SqliteConnection> {
        match &mut conn.raw {
            engine::Raw::Sqlite(conn, _) => Some(conn),
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            _ => None,
        }
    }

    fn of_ref(conn: &Conn) -> Option<&SqliteConnection> {
        match &conn.raw {
            engine::Raw::Sqlite(conn, _) => Some(conn),
            #[cfg(any(feature = "postgres", feature = "mysql"))]
            _ => None,
        }
    }
}

#[cfg(feature = "postgres")]
impl Driver for sqlx::Postgres {}

#[cfg(feature = "postgres")]
#[expect(private_interfaces, reason = "the trait is sealed; nobody outside can call it")]
impl sealed::Driver for sqlx::Postgres {
    fn of(conn: &mut Conn) -> Option<&mut sqlx::PgConnection> {
        match &mut conn.raw {
            engine::Raw::Postgres(conn) => Some(conn),
            _ => None,
        }
    }

    fn of_ref(conn: &Conn) -> Option<&sqlx::PgConnection> {
        match &conn.raw {
            engine::Raw::Postgres(conn) => Some(conn),
            _ => None,
        }
    }
}

#[cfg(feature = "mysql")]
impl Driver for sqlx::MySql {}

#[cfg(feature = "mysql")]
#[expect(private_interfaces, reason = "the trait is sealed; nobody outside can call it")]
impl sealed::Driver for sqlx::MySql {
    fn of(conn: &mut Conn) -> Option<&mut sqlx::MySqlConnection> {
        match &mut conn.raw {
            engine::Raw::MySql(conn) => Some(conn),
            _ => None,
        }
    }

    fn of_ref(conn: &Conn) -> Option<&sqlx::MySqlConnection> {
        match &conn.raw {
            engine::Raw::MySql(conn) => Some(conn),
            _ => None,
        }
    }
}

mod sealed {
    use crate::engine::Conn;

    /// Finds the driver's connection in ours.
    #[expect(private_interfaces, reason = "the trait is sealed; nobody outside can call it")]
    pub trait Driver: sqlx::Database {
        fn of(conn: &mut Conn) -> Option<&mut Self::Connection>;

        fn of_ref(conn: &Conn) -> Option<&Self::Connection>;
    }
}
