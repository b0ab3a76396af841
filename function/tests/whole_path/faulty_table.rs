//! A proxy in front of the stand-in for DynamoDB, which makes updates and then loses, delays or replaces the answers.

use std::{
    collections::{HashMap, HashSet},
    io::Error,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::stream;
use serde_json::{Value, json};
use token_mint::net::{connection, tls};
use tokio::{net::TcpListener, time::sleep};

/// The proxy's effect on an update.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The update is made, and the connection ends in the middle of the answer.
    Lost,
    /// The update is made, and the answer comes later.
    Late(Duration),
    /// The update is made, and the answer is that status.
    FailsAfterwards(u16),
    /// The update is not made, and the answer is that status with that body.
    Refused(u16, &'static str),
    /// The update is not made, and no answer comes.
    Hangs,
}

/// The updates that a fault hits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hits {
    /// Each update that was not seen before; its repetition succeeds.
    First,
    /// Those that give a token back.
    GivingBack,
    /// Those whose request contains this.
    With(&'static str),
    /// All.
    All,
}

#[derive(Default)]
struct Plan {
    fault: Option<(Fault, Hits)>,
    /// Only items whose key contains this.
    items: String,
    without_items: bool,
    seen: HashSet<Bytes>,
    /// The number of updates by the start of the item's key.
    updates: HashMap<String, usize>,
}

#[derive(Clone)]
pub struct FaultyTable {
    pub url: String,
    database: String,
    http: reqwest::Client,
    plan: Arc<Mutex<Plan>>,
}

impl FaultyTable {
    /// In front of the database at that URL. It has no fault yet.
    pub async fn before(database: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let http = connection::builder(&tls::client_config(None).unwrap()).build().unwrap();
        let table = Self { url, database: database.to_owned(), http, plan: Arc::default() };
        let routes = Router::new().route("/", post(update_item)).with_state(table.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        table
    }

    /// Sets the fault of updates of the items whose key contains `items`.
    pub fn set(&self, items: &str, fault: Fault, hits: Hits) {
        let mut plan = self.plan.lock().unwrap();
        (plan.items, plan.fault) = (items.to_owned(), Some((fault, hits)));
    }

    pub fn heal(&self) {
        self.plan.lock().unwrap().fault = None;
    }

    /// No longer returns the item with a failed condition, as some stand-ins for DynamoDB do.
    pub fn omit_items(&self) {
        self.plan.lock().unwrap().without_items = true;
    }

    /// The number of updates of items whose key starts with that.
    pub fn updates(&self, start: &str) -> usize {
        let plan = self.plan.lock().unwrap();
        plan.updates.iter().filter(|(item, _)| item.starts_with(start)).map(|(_, count)| count).sum()
    }
}

async fn update_item(State(table): State<FaultyTable>, headers: HeaderMap, body: Bytes) -> Response {
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let item = asked["Key"]["id"]["S"].as_str().unwrap();
    let (fault, without_items) = {
        let mut plan = table.plan.lock().unwrap();
        *plan.updates.entry(item.to_owned()).or_default() += 1;
        let is_new = plan.seen.insert(body.clone());
        let gives_back =
            asked["ExpressionAttributeValues"][":tokens"]["N"].as_str().is_some_and(|by| by.starts_with('-'));
        let hit = plan.fault.filter(|(_, hits)| {
            let wanted = match hits {
                Hits::First => is_new,
                Hits::GivingBack => gives_back,
                Hits::With(part) => body.windows(part.len()).any(|window| window == part.as_bytes()),
                Hits::All => true,
            };
            wanted && item.contains(&plan.items)
        });
        (hit.map(|(fault, _)| fault), plan.without_items)
    };
    let answer = |status: u16, body: String| {
        (StatusCode::from_u16(status).unwrap(), [(header::CONTENT_TYPE, "application/x-amz-json-1.0")], body)
    };
    match fault {
        Some(Fault::Refused(status, text)) => return answer(status, text.to_owned()).into_response(),
        Some(Fault::Hangs) => std::future::pending().await,
        _ => {}
    }
    let mut request = table.http.post(&table.database).body(body);
    for name in [header::CONTENT_TYPE.as_str(), header::AUTHORIZATION.as_str(), "x-amz-target", "x-amz-date"] {
        request = request.header(name, &headers[name]);
    }
    // The update is made even if the client gives up.
    let made = tokio::spawn(async move {
        let made = request.send().await.unwrap();
        (made.status().as_u16(), made.text().await.unwrap())
    });
    let (status, mut text) = made.await.unwrap();
    if without_items && status != 200 {
        let mut failure: Value = serde_json::from_str(&text).unwrap();
        failure.as_object_mut().unwrap().remove("Item");
        text = failure.to_string();
    }
    match fault {
        Some(Fault::Lost) => {
            let half = Bytes::from(text[..text.len() / 2].to_owned());
            Body::from_stream(stream::iter([Ok(half), Err(Error::other("lost"))])).into_response()
        }
        Some(Fault::FailsAfterwards(status)) => {
            let failure = json!({"__type": "com.amazonaws.dynamodb.v20120810#InternalServerError", "message": "x"});
            answer(status, failure.to_string()).into_response()
        }
        Some(Fault::Late(delay)) => {
            sleep(delay).await;
            answer(status, text).into_response()
        }
        _ => answer(status, text).into_response(),
    }
}
