//! `admin log-level`: shows or changes the log filter of the running master and workers.

use crate::failure::Failure;
use crate::output::{Output, table};
use forebay_base::KindError;
use forebay_client::Client;
use forebay_client::message::cluster::LogLevel;
use serde_json::json;

/// Asks or tells the processes of `role` (`master`, `worker` or `all`). All are tried; the first failure is told.
pub(crate) async fn log_level(client: &Client, role: &str, filter: Option<&str>, as_json: bool) -> Result<(), Failure> {
    let request = LogLevel { filter: filter.unwrap_or_default().to_string() };
    let mut asked: Vec<(&str, String, Result<String, KindError>)> = Vec::new();
    if role != "worker" {
        let reply = client.master(&request).await;
        asked.push(("master", String::new(), reply.map(|reply| reply.filter)));
    }
    if role != "master" {
        for worker in &client.cluster_map().await.workers {
            let reply = client.worker(worker, &request).await;
            asked.push(("worker", format!("{:016x}", worker.worker_id), reply.map(|reply| reply.filter)));
        }
    }
    let mut output = Output::open();
    if as_json {
        let processes: Vec<_> = asked
            .iter()
            .map(|(role, id, reply)| {
                let id = (!id.is_empty()).then_some(id);
                let error = reply.as_ref().err().map(|error| &error.message);
                json!({ "role": role, "id": id, "filter": reply.as_ref().ok(), "error": error })
            })
            .collect();
        output.line(&json!({ "processes": processes }).to_string())?;
    } else {
        let row = |(role, id, reply): &(&str, String, Result<String, KindError>)| {
            let filter = reply.as_ref().ok()?;
            Some(vec![(*role).to_string(), id.clone(), filter.clone()])
        };
        table(&mut output, &["ROLE", "ID", "FILTER"], &[], &asked.iter().filter_map(row).collect::<Vec<_>>())?;
    }
    output.flush()?;
    match asked.into_iter().find_map(|(role, id, reply)| Some((role, id, reply.err()?))) {
        Some((role, id, error)) => Err(Failure::of("admin log-level", format!("{role} {id}").trim_end(), &error)),
        None => Ok(()),
    }
}
