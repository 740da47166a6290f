use axum::handler::Handler;
use axum::routing::{self, MethodRouter};
use http::Method;

use super::Operation;

/// Routes and what they are, one table for both: none can be served without standing in the document, or the other way round.
#[derive(Debug)]
pub struct Routes<S> {
    prefix: &'static str,
    router: axum::Router<S>,
    operations: Vec<Operation>,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// `prefix`: what the router will be nested under.
    pub fn under(prefix: &'static str) -> Self {
        Self { prefix, router: axum::Router::new(), operations: Vec::new() }
    }

    #[must_use]
    pub fn get<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H, is: Operation) -> Self {
        self.add(Method::GET, path, routing::get(handler), is)
    }

    #[must_use]
    pub fn post<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H, is: Operation) -> Self {
        self.add(Method::POST, path, routing::post(handler), is)
    }

    #[must_use]
    pub fn put<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H, is: Operation) -> Self {
        self.add(Method::PUT, path, routing::put(handler), is)
    }

    #[must_use]
    pub fn patch<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H, is: Operation) -> Self {
        self.add(Method::PATCH, path, routing::patch(handler), is)
    }

    #[must_use]
    pub fn delete<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H, is: Operation) -> Self {
        self.add(Method::DELETE, path, routing::delete(handler), is)
    }

    /// Without the prefix.
    pub fn into_router(self) -> axum::Router<S> {
        self.router
    }

    pub fn into_operations(self) -> Vec<Operation> {
        self.operations
    }

    fn add(mut self, method: Method, path: &str, route: MethodRouter<S>, mut is: Operation) -> Self {
        is.method = method;
        is.path = format!("{}{}", self.prefix, path.replace("{*", "{"));
        self.operations.push(is);
        self.router = self.router.route(path, route);
        self
    }
}
