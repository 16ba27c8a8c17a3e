// SPDX-License-Identifier: MIT

//! The tools of tmdevlab.py on the official Rust SDK: `shop PORT SERVICE REDIS`.  JSON answers, no sessions.

use redis::{AsyncCommands, aio::MultiplexedConnection};
use rmcp::{
    ErrorData, ServerHandler,
    handler::server::{router::tool::ToolRouter, wrapper::Parameters},
    model::{ServerCapabilities, ServerConfig},
    schemars, tool, tool_handler, tool_router,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use serde_json::{Value, json};
use std::{collections::HashMap, fmt::Display, sync::OnceLock};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Search {
    category: String,
    min_price: f64,
    max_price: f64,
    limit: u32,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct User {
    user_id: String,
}

#[derive(serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
struct Item {
    product_id: u64,
    quantity: u64,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Order {
    user_id: String,
    items: Vec<Item>,
}

#[derive(Clone)]
struct Shop {
    service: String,
    http: reqwest::Client,
    store: MultiplexedConnection,
}

fn failed(error: impl Display) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}

fn parsed(texts: Vec<String>) -> Vec<Value> {
    texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect()
}

#[tool_router]
impl Shop {
    async fn get(&self, path: String) -> Result<Value, ErrorData> {
        let answer = self.http.get(format!("{}{path}", self.service)).send().await.map_err(failed)?;
        answer.json().await.map_err(failed)
    }

    #[tool(description = "Products of a category, by price, with their rank among the popular ones.")]
    async fn search_products(&self, Parameters(asked): Parameters<Search>) -> Result<String, ErrorData> {
        let mut store = self.store.clone();
        let path = format!(
            "/products/search?category={}&min_price={}&max_price={}&limit={}",
            asked.category, asked.min_price, asked.max_price, asked.limit
        );
        let (found, popular) = tokio::join!(self.get(path), store.zrevrange("bench:popular", 0, 9));
        let (mut found, popular): (Value, Vec<String>) = (found?, popular.map_err(failed)?);
        let ids: Vec<u64> = popular.iter().filter_map(|name| name.strip_prefix("product:")?.parse().ok()).collect();
        let ranks: HashMap<u64, usize> = ids.iter().enumerate().map(|(place, id)| (*id, place + 1)).collect();
        for product in found["products"].as_array_mut().into_iter().flatten() {
            product["popularity_rank"] = json!(product["id"].as_u64().and_then(|id| ranks.get(&id)).unwrap_or(&0));
        }
        found["category"] = json!(asked.category);
        found["top10_popular_ids"] = json!(ids);
        Ok(found.to_string())
    }

    #[tool(description = "The cart of a user, and the last orders.")]
    async fn get_user_cart(&self, Parameters(User { user_id }): Parameters<User>) -> Result<String, ErrorData> {
        let mut store = self.store.clone();
        let cart: HashMap<String, String> = store.hgetall(format!("bench:cart:{user_id}")).await.map_err(failed)?;
        let items: Vec<Item> = serde_json::from_str(cart.get("items").map_or("[]", String::as_str)).map_err(failed)?;
        let total: f64 = cart.get("total").and_then(|text| text.parse().ok()).unwrap_or(0.0);
        let first = items.first().map_or(1, |item| item.product_id);
        let (product, history) = tokio::join!(
            self.get(format!("/products/{first}")),
            store.lrange(format!("bench:history:{user_id}"), 0, 4)
        );
        let (product, history): (Value, Vec<String>) = (product?, history.map_err(failed)?);
        Ok(json!({
            "user_id": user_id,
            "cart": {"item_count": items.len(), "items": items, "estimated_total": total},
            "first_product": product["name"],
            "recent_history": parsed(history),
        })
        .to_string())
    }

    #[tool(description = "Order the items of a cart.")]
    async fn checkout(&self, Parameters(Order { user_id, items }): Parameters<Order>) -> Result<String, ErrorData> {
        let mut store = self.store.clone();
        let number: u64 = user_id.rsplit('-').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        let first = items.first().map_or(1, |item| item.product_id);
        let order = json!({"user_id": user_id, "items": items});
        let mut steps = redis::pipe();
        steps
            .incr(format!("bench:ratelimit:user-{:05}", number % 100), 1)
            .rpush(format!("bench:history:{user_id}"), order.to_string())
            .zincr("bench:popular", format!("product:{first}"), 1);
        let asked = async {
            let url = format!("{}/cart/calculate", self.service);
            let answer = self.http.post(url).json(&order).send().await.map_err(failed)?;
            answer.json::<Value>().await.map_err(failed)
        };
        let (priced, kept) = tokio::join!(asked, steps.query_async(&mut store));
        let (priced, (count, _, _)): (Value, (u64, u64, f64)) = (priced?, kept.map_err(failed)?);
        Ok(json!({
            "order_id": priced["order_id"],
            "user_id": user_id,
            "total": priced["total"],
            "items_count": items.len(),
            "rate_limit_count": count,
            "status": "confirmed",
        })
        .to_string())
    }

    fn tools() -> &'static ToolRouter<Self> {
        static TOOLS: OnceLock<ToolRouter<Shop>> = OnceLock::new();
        TOOLS.get_or_init(Self::tool_router)
    }
}

#[tool_handler(router = Self::tools())]
impl ServerHandler for Shop {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let client = redis::Client::open(words[2].as_str()).expect("the address of Redis");
    let store = client.get_multiplexed_async_connection().await.expect("Redis answers");
    let shop = Shop { service: words[1].clone(), http: reqwest::Client::new(), store };
    let config = StreamableHttpServerConfig::default().with_legacy_session_mode(false).with_json_response(true);
    let service: StreamableHttpService<Shop, LocalSessionManager> =
        StreamableHttpService::new(move || Ok(shop.clone()), Default::default(), config);
    let listener =
        tokio::net::TcpListener::bind(format!("127.0.0.1:{}", words[0])).await.expect("the port is free");
    axum::serve(listener, axum::Router::new().nest_service("/mcp", service)).await.expect("it serves");
}
