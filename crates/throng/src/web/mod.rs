//! The web role: axum under its own names, and what throng puts around it.
//!
//! Routes, extractors and responses are axum's, re-exported so that a site needs one import. Around
//! them stand, in this order: request ids and log lines, health pages, static files, body limits,
//! the CSRF check, the visitor's session, error pages, security headers. They are one function,
//! `Door::answer`, rather than a tower of layers: it is easier to read and costs less.

mod asked;
pub(crate) mod assets;
mod body;
pub(crate) mod cookies;
pub(crate) mod csrf;
pub(crate) mod door;
mod explain;
mod finish;
mod flash;
mod headers;
mod health;
mod listen;
mod log;
mod metrics;
mod serve;
pub(crate) mod session;
mod visitor;

pub use axum::{Extension, Form, Json};
pub use axum::{
    Router,
    body::Body,
    extract::{
        ConnectInfo, FromRef, FromRequest, FromRequestParts, MatchedPath, OriginalUri, Path, Query,
        Request, State,
    },
    handler::Handler,
    response::{
        Html, IntoResponse, IntoResponseParts, Redirect, Response,
        sse::{self, Sse},
    },
    routing::{MethodRouter, any, delete, get, get_service, head, patch, post, put},
};
pub use bytes::Bytes;
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, request};

pub use assets::Asset;
pub use flash::{Level, Message};
pub(crate) use headers::DEFAULT_POLICY;
#[cfg(feature = "edge")]
pub(crate) use listen::bind;
pub(crate) use listen::listen;
pub(crate) use serve::serve;
pub use visitor::Visitor;
