//! A thousand calls that end in the same minute.

use std::{collections::HashMap, time::Duration};

use futures_util::{StreamExt, stream};
use openai_simulator::EndReason;
use serde_json::{Value, json};
use token_mint::net::{connection, tls};

use crate::{
    call_events::{call_event, handle, hang_up_from, open_offer},
    function::{ADDRESS, API_KEY},
    keeper::{late, minute_in_handle},
    line::{Account, Line, now},
};

const CALLS: usize = 1_000;
/// The seconds over which their ends are spread.
const SPREAD: u64 = 10;
/// The callers, each with some calls that end in the same second.
const CALLERS: usize = 250;
/// The length of each call, in seconds.
const SECONDS: u64 = 600;

/// Opens calls at OpenAI, without the function. Returns OpenAI's names.
async fn open_calls(line: &Line) -> Vec<String> {
    let client = connection::builder(&tls::client_config(None).unwrap()).build().unwrap();
    let session = r#"{"type": "realtime", "model": "gpt-realtime-2.1"}"#;
    let body = [("sdp", open_offer().as_str()), ("session", session)]
        .map(|(name, content)| format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n"))
        .concat()
        + "--x--\r\n";
    let url = format!("{}/realtime/calls", line.openai.base_url());
    let opening = (0..CALLS).map(|_| {
        let request = client.post(&url).bearer_auth(API_KEY).header("content-type", "multipart/form-data; boundary=x");
        let request = request.body(body.clone());
        async move {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 201, "each call has a socket: allow more open files with `ulimit -S -n 4096`");
            answer.headers()["location"].to_str().unwrap().rsplit('/').next().unwrap().to_owned()
        }
    });
    stream::iter(opening).buffer_unordered(16).collect().await
}

#[tokio::test]
async fn a_thousand_calls_that_end_in_the_same_minute_end_within_five_seconds_of_their_second() {
    let Some(line) = Line::open().await else { return };
    line.mark_ended().await;
    line.openai.limit_calls(CALLS);
    line.openai.limit_connecting(Duration::from_secs(900));
    // The origin of the calls, as the function registers it.
    let function = line.function(&[]).await;
    let call = handle(&function.invoke(&call_event(ADDRESS)).await);
    let records = line.records().await;
    let made = records.iter().find(|(name, _)| *name == call).unwrap().1["made"].clone();
    assert_eq!(function.invoke(&hang_up_from(ADDRESS, &call)).await.status, 200);

    let ids = open_calls(&line).await;
    let first = now() + 10;
    let day = |time: u64| {
        let time = httpdate::HttpDate::from(std::time::UNIX_EPOCH + Duration::from_secs(time)).to_string();
        let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
        let month = months.find(&time[8..11]).unwrap() / 3 + 1;
        format!("seconds {}-{month:02}-{}", &time[12..16], &time[5..7])
    };
    let mut everyone = HashMap::from([("id".to_owned(), json!({"S": "calls/everyone"}))]);
    let (mut accounts, mut registers) = (HashMap::new(), HashMap::<String, HashMap<String, Value>>::new());
    let mut ends_of = HashMap::new();
    for (number, id) in ids.iter().enumerate() {
        let ends = first + number as u64 % SPREAD;
        let (began, caller) = (ends - SECONDS, format!("{:064x}", number % CALLERS));
        let shard = number % 4;
        // The first byte determines the shard.
        let handle = format!("{}{number:021}{}", ["D", "A", "B", "C"][shard], minute_in_handle(ends));
        let slot = json!({"S": format!("{:010} {SECONDS} {handle}", ends + 60)});
        everyone.insert(format!("slot {number}"), slot.clone());
        everyone.insert(day(began), json!({"N": (CALLS as u64 * SECONDS).to_string()}));
        let account = accounts.entry(caller.clone()).or_insert_with(HashMap::new);
        account.insert("id".to_owned(), json!({"S": format!("calls/{caller}")}));
        account.insert(format!("slot {}", number / CALLERS), slot);
        let seconds = (CALLS / CALLERS) as u64 * SECONDS;
        account.insert(day(began), json!({"N": seconds.to_string()}));
        let (base_url, proof) = (&made["base_url"], &made["proof"]);
        let record = format!(
            r#"{{"caller":"{caller}","profile":"default","state":"open","began":{began},"ends":{ends},"id":"{id}","made":{{"base_url":{base_url},"proof":{proof}}}}}"#
        );
        registers.entry(format!("ending/{}/{shard}", ends / 60)).or_default().insert(handle, json!({"S": record}));
        ends_of.insert(id.clone(), ends);
    }
    let accounts: Vec<_> = accounts.into_values().map(|account| json!(account)).collect();
    line.database.put_all(&line.table, &accounts).await;
    line.database.put(&line.table, json!(everyone)).await;
    for (id, mut register) in registers {
        register.insert("id".to_owned(), json!({"S": id}));
        line.database.put(&line.table, json!(register)).await;
    }
    let keeper = line.keeper().await;
    let (ended, failed) = keeper.round().await;
    assert_eq!((ended, failed), (CALLS as u64, vec![]));
    let calls = line.openai.ended_calls();
    let late: Vec<_> = calls[1..]
        .iter()
        .map(|call| {
            assert_eq!(call.reason, EndReason::HungUp);
            late(call, ends_of[&call.call.call_id])
        })
        .collect();
    assert_eq!(late.len(), CALLS);
    let latest = late.iter().copied().fold(0.0, f64::max);
    assert!(late.iter().all(|late| *late >= 0.0) && latest <= 5.0, "{latest} s");
    let account = line.account("everyone").await;
    assert_eq!(account, Account { slots: 0, seconds: CALLS as u64 * SECONDS });
}
