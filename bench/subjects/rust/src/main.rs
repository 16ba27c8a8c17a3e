// SPDX-License-Identifier: MIT

//! The official Rust SDK, rmcp, on axum: `subject PORT [stateless] [json]`.  JSON answers exist without sessions only.

use std::{sync::OnceLock, time::Duration};

use rmcp::{
    ErrorData, Peer, RoleServer, ServerHandler,
    handler::server::{router::tool::ToolRouter, wrapper::Parameters},
    model::{ProgressNotificationParam, RequestMetaObject, ServerCapabilities, ServerConfig},
    schemars, tool, tool_handler, tool_router,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Numbers {
    a: i64,
    b: i64,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Count {
    n: u32,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Words {
    text: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Wait {
    seconds: f64,
}

#[derive(Clone)]
struct Subject;

#[tool_router]
impl Subject {
    #[tool(description = "Add two numbers.")]
    async fn add(&self, Parameters(Numbers { a, b }): Parameters<Numbers>) -> String {
        (a + b).to_string()
    }

    #[tool(description = "Report progress n times.")]
    async fn ticks(
        &self,
        Parameters(Count { n }): Parameters<Count>,
        meta: RequestMetaObject,
        client: Peer<RoleServer>,
    ) -> Result<String, ErrorData> {
        let token = meta
            .get_progress_token()
            .ok_or(ErrorData::invalid_params("no progress token", None))?;
        for step in 1..=n {
            let progress = ProgressNotificationParam::new(token.clone(), f64::from(step)).with_total(f64::from(n));
            let _ = client.notify_progress(progress).await;
        }
        Ok("done".into())
    }

    #[tool(description = "Say it again.")]
    async fn echo(&self, Parameters(Words { text }): Parameters<Words>) -> String {
        text
    }

    #[tool(description = "Wait.")]
    async fn sleep(&self, Parameters(Wait { seconds }): Parameters<Wait>) -> String {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        "slept".into()
    }

    /// The tools, made once: a session, or a request without one, has a handler of its own.
    fn tools() -> &'static ToolRouter<Self> {
        static TOOLS: OnceLock<ToolRouter<Subject>> = OnceLock::new();
        TOOLS.get_or_init(|| {
            let mut router = Self::tool_router();
            let add = router.map.get("add").expect("it was just made").clone();
            for number in 0..96 {
                let mut route = add.clone();
                route.attr.name = format!("extra_{number}").into();
                router.add_route(route);
            }
            router
        })
    }
}

#[tool_handler(router = Self::tools())]
impl ServerHandler for Subject {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let given = |word: &str| words.iter().any(|other| other == word);
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(!given("stateless"))
        .with_json_response(given("json"));
    let service: StreamableHttpService<Subject, LocalSessionManager> =
        StreamableHttpService::new(|| Ok(Subject), Default::default(), config);
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{}", words[0]))
        .await
        .expect("the port is free");
    axum::serve(listener, axum::Router::new().nest_service("/mcp", service))
        .await
        .expect("it serves");
}
