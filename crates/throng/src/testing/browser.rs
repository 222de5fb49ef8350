//! A visitor's browser: keeps cookies, sends forms with their token.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{body::Body, extract::ConnectInfo};
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt;
use serde::Serialize;

use super::Answer;
use crate::{start::Front, web::csrf};

/// One visitor, with cookies of their own. Speaks to the site without a socket.
#[derive(Clone)]
pub struct Browser {
    front: Front,
    cookies: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Browser {
    pub(super) fn new(front: Front) -> Self {
        Self { front, cookies: Arc::default() }
    }

    /// Asks for a page. Redirects are not followed.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path).body(Body::empty())).await
    }

    /// Sends a form, with the CSRF token that a form on the page would have had.
    pub async fn post<T: Serialize + ?Sized>(&self, path: &str, form: &T) -> Answer {
        let mut form =
            serde_urlencoded::to_string(form).expect("a form is a list of names and values");
        let token = self.csrf_token();
        if !form.is_empty() {
            form.push('&');
        }
        form.push_str(csrf::FIELD);
        form.push('=');
        form.push_str(&token);
        let request = self.request(Method::POST, path);
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(form))).await
    }

    /// Sends JSON, as a script or another program would.
    pub async fn post_json<T: Serialize + ?Sized>(&self, path: &str, value: &T) -> Answer {
        let body = serde_json::to_vec(value).expect("what is sent is JSON");
        let request = self.request(Method::POST, path);
        let request = request
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json");
        self.send(request.body(Body::from(body))).await
    }

    /// Sends any request, as it is: no token is added. Cookies are, and are kept.
    pub async fn request_with(&self, request: Request<Body>) -> Answer {
        self.send(Ok(request)).await
    }

    /// Sends any request and gives the answer before its body was read: for streams.
    pub async fn open(&self, mut request: Request<Body>) -> Response<Body> {
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 1))));
        if let Some(cookies) = self.cookie_header() {
            request.headers_mut().insert(header::COOKIE, cookies);
        }
        let response = self.front.answer(request).await;
        self.keep(&response);
        response
    }

    /// The value of a cookie.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.cookies().get(name).cloned()
    }

    /// Sets a cookie, as a visitor with bad intentions would; an empty value takes it away.
    pub fn set_cookie(&self, name: &str, value: &str) {
        let mut cookies = self.cookies();
        if value.is_empty() {
            cookies.remove(name);
        } else {
            cookies.insert(name.to_owned(), value.to_owned());
        }
    }

    /// The CSRF token of this visitor's forms. Made here when no page has set the cookie yet: the
    /// protection compares the two and keeps no list.
    #[must_use]
    pub fn csrf_token(&self) -> String {
        let mut cookies = self.cookies();
        let secret = cookies
            .entry(csrf::COOKIE.to_owned())
            .or_insert_with(|| csrf::new_secret().expect("a test machine has randomness"));
        csrf::masked(secret).expect("a test machine has randomness")
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, HOST)
            .header(header::ACCEPT, "text/html,*/*;q=0.8")
    }

    async fn send(&self, request: http::Result<Request<Body>>) -> Answer {
        let request = request.expect("the path and headers of a test are right");
        let (parts, body) = self.open(request).await.into_parts();
        let body = body.collect().await.expect("a body made in this process arrives").to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    fn keep(&self, response: &Response<Body>) {
        let mut cookies = self.cookies();
        for line in response.headers().get_all(header::SET_COOKIE) {
            let line = line.to_str().unwrap_or_default();
            let (pair, flags) = line.split_once(';').unwrap_or((line, ""));
            let Some((name, value)) = pair.split_once('=') else { continue };
            if flags.contains("Max-Age=0") {
                cookies.remove(name);
            } else {
                cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    fn cookie_header(&self) -> Option<HeaderValue> {
        let cookies = self.cookies();
        let pairs: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| HeaderValue::try_from(pairs.join("; ")).ok()).flatten()
    }

    fn cookies(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.cookies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Browser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Browser").finish_non_exhaustive()
    }
}

const HOST: &str = "site.test";
